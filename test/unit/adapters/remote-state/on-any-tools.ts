/** What holds whatever tools and shell a host has: of this machine in unit tests, BusyBox's in the root tier. */
import { spawnSync } from "node:child_process";
import { expect } from "vitest";
import { fencedStatus } from "../../../../cli/src/adapters/remote-state/fence.js";
import { GpuctlError } from "../../../../cli/src/domain/errors.js";
import { ms } from "../../../../cli/src/domain/units.js";
import { recordOf } from "../../../support/records.js";
import { never, type World } from "./world.js";

/** Whether it was done; false when gpuctl refused it. */
export const works = (promise: Promise<unknown>): Promise<boolean> =>
  promise.then(
    () => true,
    (error: unknown) => {
      if (error instanceof GpuctlError) return false;
      throw error;
    },
  );

export async function expectOneLeaseOfMany(hosts: World): Promise<void> {
  for (let round = 0; round < 4; round++) {
    const people = Array.from({ length: 6 }, (_, position) => hosts.person(`p${round}-${position}`));
    const answers = await Promise.allSettled(people.map(({ leases }) => leases.acquire("deploy", ms(0), never)));
    const taken = answers.flatMap((answer) => (answer.status === "fulfilled" ? [answer.value] : []));
    expect(taken.map(({ token }) => token)).toEqual([round + 1]);
    const writes = people.map(({ releases }) => works(releases.create(recordOf(round + 1), {})));
    expect((await Promise.all(writes)).filter(Boolean)).toHaveLength(1);
    await taken[0]?.release();
  }
}

export const runGuarded = (
  shell: readonly [string, ...string[]],
  script: string,
): { status: number | null; stdout: string; stderr: string } =>
  spawnSync(shell[0], [...shell.slice(1), "-c", `${script}\necho changed`], { encoding: "utf8" });

export async function expectGuarded(shell: readonly [string, ...string[]], hosts: World): Promise<void> {
  const ada = await hosts.working("ada");
  const guard = ada.states[0]?.guard() ?? "";
  expect(runGuarded(shell, guard)).toMatchObject({ status: 0, stdout: "changed\n", stderr: "" });
  hosts.pass(40);
  const bob = await hosts.working("bob");
  expect(runGuarded(shell, guard)).toMatchObject({
    status: fencedStatus,
    stdout: "",
    stderr: expect.stringMatching(/lease 2 is/) as unknown,
  });
  const bobs = bob.states[0]?.guard() ?? "";
  expect(runGuarded(shell, bobs)).toMatchObject({ status: 0 });
  hosts.hosts[0]?.reboot();
  expect(runGuarded(shell, bobs)).toMatchObject({ status: fencedStatus, stderr: expect.stringMatching(/reboot/) as unknown });
}
