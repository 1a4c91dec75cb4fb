/** Commands on a host that are cut short: Ctrl-C, kill -9 and lost connections, before, during and after the switch. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Served } from "../support/bed/served.js";
import { until } from "../support/until.js";

let served: Served;
const deploying = ["deploy", "-e", "prod"];
const patience = 240_000;

beforeAll(async () => {
  served = await Served.start();
  const first = await served.stack.run(deploying);
  if (first.code !== 0) throw new Error(first.stderr);
}, 1_800_000);

afterAll(async () => {
  await served.stop();
});

/** Starts a deploy of something new and waits until it said that a phase had ended. */
async function deployUntil(phase: string): Promise<ReturnType<Served["stack"]["start"]>> {
  served.change();
  const deploy = served.stack.start(deploying);
  await deploy.saysOnStderr(new RegExp(`\\d\\d ${phase}`), patience);
  return deploy;
}

/** The release that the project file asks for serves, alone, after one more deploy that nobody has to help. */
async function settles(): Promise<void> {
  const next = await served.stack.run(deploying);
  expect(next.code, next.stderr).toBe(0);
  const after = await served.status();
  expect(after.release?.state).toBe("good");
  expect(after.drift).toEqual([]);
  expect(await served.open()).toHaveLength(1);
}

describe("kill -9 of a deploy", () => {
  test.each(["start", "gates", "switch", "drain"])(
    "after %s: no request fails, the next deploy takes over the lease and settles it",
    async (phase) => {
      const failures = await served.failuresDuring(async () => {
        const deploy = await deployUntil(phase);
        deploy.child.kill("SIGKILL");
        await deploy.ended;
        expect((await served.open()).length).toBeGreaterThan(0);
        await settles();
      });
      expect(failures).toEqual({});
    },
    600_000,
  );
});

describe("Ctrl-C in a deploy", () => {
  test.each(["start", "gates", "switch", "drain"])(
    "after %s: the release before serves on, and the lease is free",
    async (phase) => {
      const before = (await served.status()).release?.id;
      const failures = await served.failuresDuring(async () => {
        const deploy = await deployUntil(phase);
        deploy.child.kill("SIGINT");
        const ended = await deploy.ended;
        expect(ended.code, ended.stderr).toBe(130);
        expect(ended.stderr).toContain(`${before ?? ""} keeps serving`);
        expect((await served.status()).release?.id).toBe(before);
        expect(await served.open()).toHaveLength(1);
        const lock = await served.stack.run(["lock", "status", "-e", "prod"]);
        expect(lock.stdout).toContain("free");
      });
      expect(failures).toEqual({});
    },
    600_000,
  );
});

/** Whether the release that was asked for is in service, by the exit status of a deploy that lost its hosts for a moment. */
async function expectTold(ended: Awaited<ReturnType<Served["stack"]["run"]>>, before: string): Promise<void> {
  expect([0, 6], ended.stderr).toContain(ended.code);
  const now = (await served.status()).release?.id ?? "";
  if (ended.code === 6) expect(ended.stderr).toContain(`${before} keeps serving`);
  expect(now === before, ended.stderr).toBe(ended.code === 6);
}

describe("ssh that is lost in a deploy", () => {
  test.each([
    ["before the switch", "start", [6]],
    ["right before the switch", "gates", [0, 6]],
    ["right after the switch", "switch", [0, 6]],
    ["in the soak", "drain", [0, 6]],
  ] as const)(
    "for a moment, %s: no request fails, and what the command says is what serves",
    async (_when, phase, codes) => {
      const before = (await served.status()).release?.id ?? "";
      const failures = await served.failuresDuring(async () => {
        const deploy = await deployUntil(phase);
        await served.host.exec(["pkill", "-KILL", "-f", "^sshd"]);
        const ended = await deploy.ended;
        expect(codes, ended.stderr).toContain(ended.code);
        await expectTold(ended, before);
        expect(await served.open()).toHaveLength(1);
        await settles();
      });
      expect(failures).toEqual({});
    },
    600_000,
  );

  test("for a moment, while the old instance still answers a request: it is drained all the same, and the deploy ends well", async () => {
    const before = await served.open();
    const failures = await served.failuresDuring(async () => {
      const request = served.askSlowly();
      const deploy = await deployUntil("switch");
      await until(async () => !(await served.open()).includes(before[0] ?? ""), "the old instance takes nothing new", 60_000);
      await served.host.exec(["pkill", "-KILL", "-f", "^sshd"]);
      expect(await request.finish()).toBe(200);
      const ended = await deploy.ended;
      expect(ended.code, ended.stderr).toBe(0);
      expect(ended.stderr).not.toContain("still had requests");
      expect(await served.open()).toEqual([expect.not.stringContaining(before[0] ?? "")]);
    });
    expect(failures).toEqual({});
  }, 600_000);

  test.each([
    ["before the switch", "start"],
    ["right before the switch", "gates"],
    ["right after the switch", "switch"],
    ["in the soak", "drain"],
  ] as const)(
    "for good, %s: the command says what it knows, the host serves on, and the next deploy settles it",
    async (_when, phase) => {
      const failures = await served.failuresDuring(async () => {
        const deploy = await deployUntil(phase);
        await served.host.must(["touch", "/run/stopped/sshd"]);
        await served.host.exec(["pkill", "-KILL", "-f", "^sshd"]);
        const ended = await deploy.ended;
        expect(ended.code, ended.stderr).toBe(9);
        expect(ended.stderr).toMatch(/r\d+-\w+ failed and[^]*one \(.*\) cannot be reached/);
        expect(await served.answers()).toBe(true);
        await served.host.must(["rm", "/run/stopped/sshd"]);
        await settles();
      });
      expect(failures).toEqual({});
    },
    600_000,
  );
});
