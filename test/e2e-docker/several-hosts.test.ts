/** Deploys over three hosts by the real CLI: all of them or none, whatever happens to one of them or to whoever deploys. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Bed } from "../support/bed/bed.js";
import { Stack } from "../support/bed/stack.js";
import { all, documentOf, embedder, expectCode, names, rowsOf, statesOf, ThreeHosts } from "../support/bed/three-hosts.js";
import { until } from "../support/until.js";

const patience = 900_000;
let hosts: ThreeHosts;
let bed: Bed;
let stack: Stack;

beforeAll(async () => {
  hosts = await ThreeHosts.start();
  ({ bed, stack } = hosts);
}, 1_800_000);

afterAll(async () => {
  await hosts.stop();
});

test(
  "a first deploy serves on every host, and an upgrade moves them one by one without a request that fails",
  async () => {
    const first = await stack.run(["deploy", "-e", "prod", "--json"]);
    expectCode(first, 0);
    expect(statesOf(first)).toEqual(all("new"));
    stack.write({ services: [embedder(2)] });
    const upgrade = await hosts.under(names, () => stack.run(["deploy", "-e", "prod"]));
    expectCode(upgrade, 0);
    expect(upgrade.stdout).toMatch(/Hosts\n +host +before +now +state\n +one +r1-\w+ +r2-\w+ +serves\n/);
  },
  patience,
);

test(
  "where the second of three hosts fails, all of them serve the old release again, and nobody has noticed",
  async () => {
    const before = (await hosts.statusOf()).release.id;
    stack.write({ services: [embedder(3)] });
    const ran = await hosts.under(names, async () => {
      const running = await hosts.deployUntil(/three: correctness/);
      const candidate = /r3-\w+/.exec(JSON.stringify(await hosts.gatesOf("two")))?.[0] ?? "";
      await bed.host("two").must(["docker", "kill", await hosts.containerOf("two", candidate)]);
      return running.ended;
    });
    expectCode(ran, 6);
    expect(statesOf(ran)).toEqual(all("before"));
    expect(rowsOf(ran).every(({ now }) => now === before)).toBe(true);
    expect(await hosts.statusOf()).toMatchObject({ release: { id: before }, healthy: true });
  },
  patience,
);

test(
  "another machine, without anything of its own, rolls back, also where a host's clock is an hour ahead",
  async () => {
    await bed.host("one").skewClock(3600);
    const other = await Stack.create(bed, { hosts: names, services: [embedder(3)], images: hosts.images });
    try {
      const rolled = await hosts.under(names, () => other.run(["rollback", "-e", "prod", "--parallel", "3", "--json"]));
      expectCode(rolled, 0);
      expect(statesOf(rolled)).toEqual(all("new"));
      const { releases } = await other.result<{ releases: { id: string; current: boolean }[] }>(["releases", "-e", "prod"]);
      const numbers = releases.map(({ id }) => Number(/^r(\d+)-/.exec(id)?.[1]));
      expect(numbers).toEqual(numbers.map((_, position) => numbers.length - position));
      expect(releases.filter(({ current }) => current)).toEqual([releases[0]]);
    } finally {
      await other.sandbox.close();
      await bed.host("one").skewClock(0);
    }
  },
  patience,
);

test(
  "a deploy that is killed between two hosts is finished by --continue; meanwhile a second operator is told who is at it",
  async () => {
    stack.write({ services: [embedder(5)] });
    const other = await Stack.create(bed, { hosts: names, services: [embedder(5)], images: hosts.images });
    try {
      const finished = await hosts.under(names, async () => {
        const known = Object.keys(await hosts.gatesOf("one"));
        const running = await hosts.deployUntil(/load/);
        const asked = other.run(["repair", "-e", "prod", "--json"]);
        const moved = async (): Promise<boolean> =>
          Object.entries(await hosts.gatesOf("one")).some(([id, word]) => !known.includes(id) && word === "open");
        await until(moved, "the first host got its traffic", 300_000);
        running.child.kill("SIGKILL");
        await running.ended;
        const refused = await asked;
        expectCode(refused, 5);
        expect(documentOf(refused).error?.because).toMatch(/is held by \S+@\S+ running `gpuctl deploy` \(pid \d+/);
        return other.run(["deploy", "-e", "prod", "--continue", "--lock-wait", "2m", "--json"]);
      });
      expectCode(finished, 0);
      expect(statesOf(finished)).toEqual(all("new"));
      const again = await stack.run(["deploy", "-e", "prod", "--continue"]);
      expectCode(again, 2);
      expect(again.stderr).toContain("there is no deploy to continue");
    } finally {
      await other.sandbox.close();
    }
  },
  patience,
);

test(
  "a host that loses its power in the middle of a deploy does not keep the others from coming back, and is repaired later",
  async () => {
    const before = (await hosts.statusOf()).release.id;
    stack.write({ services: [embedder(6)] });
    const ran = await hosts.under(["one", "two"], async () => {
      const running = await hosts.deployUntil(/two: correctness/);
      await bed.host("three").powerOff();
      return running.ended;
    });
    expectCode(ran, 6);
    expect(statesOf(ran)).toEqual({ one: "before", two: "before", three: "left" });
    expect(documentOf(ran).error?.nextSteps?.[0]).toBe("gpuctl repair --hosts three, when it is back");
    const meanwhile = await stack.run(["deploy", "-e", "prod"]);
    expectCode(meanwhile, 4);
    expect(meanwhile.stderr).toContain("three cannot be reached, and nothing was changed");
    await bed.host("three").powerOn();
    expectCode(await stack.run(["repair", "-e", "prod", "--hosts", "three", "--lock-wait", "1m"]), 0);
    expect(await hosts.statusOf()).toMatchObject({ release: { id: before }, healthy: true, drift: [] });
    expect((await hosts.ask("three")).status).toBe(200);
  },
  patience,
);

test(
  "a host that was installed again is refused for its new key, then recognised, and brought back; half of a change is refused",
  async () => {
    stack.write({ services: [embedder(5)] });
    await bed.host("three").powerOff();
    await bed.host("three").install();
    await bed.host("three").powerOn();
    const stranger = await stack.run(["deploy", "-e", "prod", "--json"]);
    expectCode(stranger, 4);
    expect(documentOf(stranger).error?.because).toMatch(/host key/);
    bed.writeKnownHosts();
    expect((await hosts.statusOf()).problems).toContain("three keeps no release: it is new or was installed again");
    stack.write({ services: [embedder(7)] });
    const half = await stack.run(["deploy", "-e", "prod", "--hosts", "three", "--json"]);
    expectCode(half, 5);
    expect(documentOf(half).error?.message).toBe("this would put another release on three alone");
    stack.write({ services: [embedder(5)] });
    const back = await hosts.under(["one", "two"], () => stack.run(["deploy", "-e", "prod", "--hosts", "three", "--json"]));
    expectCode(back, 0);
    expect((await hosts.ask("three")).status).toBe(200);
    expect(await hosts.statusOf()).toMatchObject({ healthy: true, drift: [] });
    const kept = join(bed.host("three").root, "var/lib/gpuctl/shop/prod/releases");
    expect(readFileSync(join(kept, `${(await hosts.statusOf()).release.id}.json`), "utf8")).toContain('"state":"good"');
  },
  patience,
);

test(
  "a service that is not to run on a host any more is ended there, and its port is free",
  async () => {
    stack.write({ services: [embedder(5, ", nodes: [one, two]")] });
    const ran = await hosts.under(["one", "two"], () => stack.run(["deploy", "-e", "prod", "--json"]));
    expectCode(ran, 0);
    await expect(hosts.ask("three")).rejects.toThrow("fetch failed");
    expect(await bed.host("three").must(["docker", "ps", "--quiet"])).toBe("");
    expect(await hosts.statusOf()).toMatchObject({ healthy: true, drift: [] });
  },
  patience,
);
