/** A host that does not answer, left out of a deploy over three hosts by the real CLI, and brought level afterwards. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { documentOf, embedder, expectCode, names, statesOf, ThreeHosts } from "../support/bed/three-hosts.js";
import { until } from "../support/until.js";

const patience = 900_000;
let hosts: ThreeHosts;

beforeAll(async () => {
  hosts = await ThreeHosts.start();
}, 1_800_000);

afterAll(async () => {
  await hosts.stop();
});

test(
  "a host without power is left out of a deploy by --hosts, which says that the environment is mixed, and is level when it is back",
  async () => {
    expectCode(await hosts.stack.run(["deploy", "-e", "prod"]), 0);
    hosts.stack.write({ services: [embedder(2)] });
    const half = await hosts.stack.run(["deploy", "-e", "prod", "--hosts", "one,two", "--json"]);
    expectCode(half, 5);
    const before = (await hosts.statusOf()).release.id;
    await hosts.bed.host("three").powerOff();
    const refused = await hosts.stack.run(["deploy", "-e", "prod", "--json"]);
    expectCode(refused, 4);
    expect(documentOf(refused).error?.nextSteps).toContain("gpuctl deploy --hosts one,two, to go on without it");
    const ran = await hosts.under(["one", "two"], () =>
      hosts.stack.run(["deploy", "-e", "prod", "--hosts", "one,two", "--json"]),
    );
    expectCode(ran, 9);
    expect(statesOf(ran)).toEqual({ one: "new", two: "new", three: "left-out" });
    const release = (await hosts.statusOf()).release.id;
    expect((await hosts.statusOf()).problems.join()).toContain(`${release} was deployed without it`);
    await hosts.bed.host("three").powerOn();
    await until(async () => (await hosts.ask("three").catch(() => null))?.status === 200, "three serves again", 120_000);
    expect((await hosts.statusOf()).problems.join()).toMatch(
      new RegExp(`three is left behind: ${release} was deployed without it, and embedder-\\S+ answers there`),
    );
    const level = await hosts.under(names, () => hosts.stack.run(["deploy", "-e", "prod", "--lock-wait", "1m", "--json"]));
    expectCode(level, 0);
    expect(release).not.toBe(before);
    expect(await hosts.containerOf("three", release)).not.toBe("");
    expect(await hosts.statusOf()).toMatchObject({ release: { id: release }, healthy: true, drift: [] });
  },
  patience,
);
