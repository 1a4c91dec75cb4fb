/** Deploys over three hosts by the real CLI: all of them or none, whatever happens to one of them or to whoever deploys. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Bed } from "../support/bed/bed.js";
import { caddyImage, serviceImage } from "../support/bed/images.js";
import { pinned, Stack, SteadyClient } from "../support/bed/stack.js";
import type { JsonDocument, Ran, Running } from "../support/sandbox.js";
import { until } from "../support/until.js";

interface HostRow {
  node: string;
  before: string | null;
  now: string | null;
  state: string;
}
interface Status {
  release: { id: string };
  healthy: boolean;
  problems: string[];
  drift: string[];
}

const names = ["one", "two", "three"] as const;
const port = 18301;
const patience = 900_000;
let bed: Bed;
let stack: Stack;
const images = { services: "", proxy: "" };
/** Another value is another release. */
const embedder = (entries: number, nodes = ""): string =>
  `embedder: { model: all-MiniLM-L6-v2, port: ${port}, options: { cacheEntries: ${entries} }${nodes} }`;

beforeAll(async () => {
  const [services, caddy] = [await serviceImage(), await caddyImage()];
  bed = await Bed.start(names.map((name) => ({ name })));
  images.services = await pinned(bed, bed.host("one"), services);
  images.proxy = await pinned(bed, bed.host("one"), caddy);
  stack = await Stack.create(bed, { hosts: names, services: [embedder(1)], images });
}, 1_800_000);

afterAll(async () => {
  await stack.close();
  await bed.stop();
});

const ask = (host: string): Promise<Response> =>
  fetch(`http://${bed.host(host).address}:${port}/embed`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ inputs: "a steady text" }),
    signal: AbortSignal.timeout(30_000),
  });

/** What every one of these hosts answered while something was done. */
async function under<T>(hosts: readonly string[], work: () => Promise<T>): Promise<T> {
  const clients = hosts.map((host) => ({ host, client: new SteadyClient(() => ask(host), 200) }));
  try {
    return await work();
  } finally {
    await Promise.all(clients.map(({ client }) => client.stop()));
    expect(clients.map(({ host, client }) => ({ host, failures: client.failures }))).toEqual(
      hosts.map((host) => ({ host, failures: {} })),
    );
    for (const { client } of clients) expect(client.answers).toBeGreaterThan(3);
  }
}

const documentOf = (ran: Ran): JsonDocument => JSON.parse(ran.stdout) as JsonDocument;
const rowsOf = (ran: Ran): readonly HostRow[] => {
  interface Hosts {
    hosts: readonly HostRow[];
  }
  const { result, error } = documentOf(ran) as { result?: unknown; error?: { data?: unknown } };
  return ((result ?? error?.data) as Hosts).hosts;
};
const statusOf = async (): Promise<Status> => {
  const ran = await stack.run(["status", "-e", "prod", "--json"]);
  return documentOf(ran).result as Status;
};
const expectCode = (ran: Ran, code: number): void => {
  expect(ran.code, `${ran.stdout}\n${ran.stderr}`).toBe(code);
};
const statesOf = (ran: Ran): Record<string, string> => Object.fromEntries(rowsOf(ran).map(({ node, state }) => [node, state]));
const all = (state: string): Record<string, string> => Object.fromEntries(names.map((name) => [name, state]));

/** Begins a deploy and waits until it has come so far. */
async function deployUntil(pattern: RegExp, args: readonly string[] = []): Promise<Running> {
  const running = stack.start(["deploy", "-e", "prod", "--json", ...args]);
  await running.saysOnStderr(pattern, 300_000);
  return running;
}

/** The gate of the newest release's instance on a host, as its file says. */
async function gatesOf(host: string): Promise<Record<string, string>> {
  const text = await bed.host(host).must(["sh", "-c", "cd /var/lib/gpuctl/shop/prod/gates && grep -H . *-[ab]"]);
  return Object.fromEntries(
    text
      .trim()
      .split("\n")
      .map((line) => line.split(":") as [string, string]),
  );
}

const containerOf = async (host: string, release: string): Promise<string> => {
  const filter = `label=dev.gpuctl.release=${release}`;
  return (await bed.host(host).must(["docker", "ps", "--quiet", "--filter", filter])).trim();
};

test(
  "a first deploy serves on every host, and an upgrade moves them one by one without a request that fails",
  async () => {
    const first = await stack.run(["deploy", "-e", "prod", "--json"]);
    expectCode(first, 0);
    expect(statesOf(first)).toEqual(all("new"));
    stack.write({ services: [embedder(2)] });
    const upgrade = await under(names, () => stack.run(["deploy", "-e", "prod"]));
    expectCode(upgrade, 0);
    expect(upgrade.stdout).toMatch(/Hosts\n +host +before +now +state\n +one +r1-\w+ +r2-\w+ +serves\n/);
  },
  patience,
);

test(
  "where the second of three hosts fails, all of them serve the old release again, and nobody has noticed",
  async () => {
    const before = (await statusOf()).release.id;
    stack.write({ services: [embedder(3)] });
    const ran = await under(names, async () => {
      const running = await deployUntil(/three: correctness/);
      const candidate = /r3-\w+/.exec(JSON.stringify(await gatesOf("two")))?.[0] ?? "";
      await bed.host("two").must(["docker", "kill", await containerOf("two", candidate)]);
      return running.ended;
    });
    expectCode(ran, 6);
    expect(statesOf(ran)).toEqual(all("before"));
    expect(rowsOf(ran).every(({ now }) => now === before)).toBe(true);
    expect(await statusOf()).toMatchObject({ release: { id: before }, healthy: true });
  },
  patience,
);

test(
  "another machine, without anything of its own, rolls back, also where a host's clock is an hour ahead",
  async () => {
    await bed.host("one").skewClock(3600);
    const other = await Stack.create(bed, { hosts: names, services: [embedder(3)], images });
    try {
      const rolled = await under(names, () => other.run(["rollback", "-e", "prod", "--parallel", "3", "--json"]));
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
    const other = await Stack.create(bed, { hosts: names, services: [embedder(5)], images });
    try {
      const finished = await under(names, async () => {
        const known = Object.keys(await gatesOf("one"));
        const running = await deployUntil(/load/);
        const asked = other.run(["repair", "-e", "prod", "--json"]);
        const moved = async (): Promise<boolean> =>
          Object.entries(await gatesOf("one")).some(([id, word]) => !known.includes(id) && word === "open");
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
    const before = (await statusOf()).release.id;
    stack.write({ services: [embedder(6)] });
    const ran = await under(["one", "two"], async () => {
      const running = await deployUntil(/two: correctness/);
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
    expect(await statusOf()).toMatchObject({ release: { id: before }, healthy: true, drift: [] });
    expect((await ask("three")).status).toBe(200);
  },
  patience,
);

test(
  "a host without power is left out of a deploy by --hosts, which says that the environment is mixed, and is level when it is back",
  async () => {
    stack.write({ services: [embedder(8)] });
    const half = await stack.run(["deploy", "-e", "prod", "--hosts", "one,two", "--json"]);
    expectCode(half, 5);
    const before = (await statusOf()).release.id;
    await bed.host("three").powerOff();
    const refused = await stack.run(["deploy", "-e", "prod", "--json"]);
    expectCode(refused, 4);
    expect(documentOf(refused).error?.nextSteps).toContain("gpuctl deploy --hosts one,two, to go on without it");
    const ran = await under(["one", "two"], () => stack.run(["deploy", "-e", "prod", "--hosts", "one,two", "--json"]));
    expectCode(ran, 9);
    expect(statesOf(ran)).toEqual({ one: "new", two: "new", three: "left-out" });
    const release = (await statusOf()).release.id;
    expect((await statusOf()).problems.join()).toContain(`${release} was deployed without it`);
    await bed.host("three").powerOn();
    await until(async () => (await ask("three").catch(() => null))?.status === 200, "three serves again", 120_000);
    expect((await statusOf()).problems.join()).toMatch(
      new RegExp(`three is left behind: ${release} was deployed without it, and embedder-\\S+ answers there`),
    );
    const level = await under(names, () => stack.run(["deploy", "-e", "prod", "--lock-wait", "1m", "--json"]));
    expectCode(level, 0);
    expect(release).not.toBe(before);
    expect(await containerOf("three", release)).not.toBe("");
    expect(await statusOf()).toMatchObject({ release: { id: release }, healthy: true, drift: [] });
  },
  patience,
);

test(
  "a host that was installed again is refused for its new key, then recognised, and brought back; half of a change is refused",
  async () => {
    stack.write({ services: [embedder(8)] });
    await bed.host("three").powerOff();
    await bed.host("three").install();
    await bed.host("three").powerOn();
    const stranger = await stack.run(["deploy", "-e", "prod", "--json"]);
    expectCode(stranger, 4);
    expect(documentOf(stranger).error?.because).toMatch(/host key/);
    bed.writeKnownHosts();
    expect((await statusOf()).problems).toContain("three keeps no release: it is new or was installed again");
    stack.write({ services: [embedder(7)] });
    const half = await stack.run(["deploy", "-e", "prod", "--hosts", "three", "--json"]);
    expectCode(half, 5);
    expect(documentOf(half).error?.message).toBe("this would put another release on three alone");
    stack.write({ services: [embedder(8)] });
    const back = await under(["one", "two"], () => stack.run(["deploy", "-e", "prod", "--hosts", "three", "--json"]));
    expectCode(back, 0);
    expect((await ask("three")).status).toBe(200);
    expect(await statusOf()).toMatchObject({ healthy: true, drift: [] });
    const kept = join(bed.host("three").root, "var/lib/gpuctl/shop/prod/releases");
    expect(readFileSync(join(kept, `${(await statusOf()).release.id}.json`), "utf8")).toContain('"state":"good"');
  },
  patience,
);

test(
  "a service that is not to run on a host any more is ended there, and its port is free",
  async () => {
    stack.write({ services: [embedder(8, ", nodes: [one, two]")] });
    const ran = await under(["one", "two"], () => stack.run(["deploy", "-e", "prod", "--json"]));
    expectCode(ran, 0);
    await expect(ask("three")).rejects.toThrow("fetch failed");
    expect(await bed.host("three").must(["docker", "ps", "--quiet"])).toBe("");
    expect(await statusOf()).toMatchObject({ healthy: true, drift: [] });
  },
  patience,
);
