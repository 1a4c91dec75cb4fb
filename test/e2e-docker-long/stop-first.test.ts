/** A card that has no room for two: the old instance stops first, comes back when its successor fails, and by itself when nobody is left. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { Bed } from "../support/bed/bed.js";
import type { BedHost } from "../support/bed/host.js";
import { caddyImage, stubGpuImage } from "../support/bed/images.js";
import { slowRequest, type SlowRequest } from "../support/bed/slow-request.js";
import { pinned, Stack } from "../support/bed/stack.js";
import { until } from "../support/until.js";

const card = "GPU-5d3c1ab0-6f0e-4c55-9d0a-1f2f3a4b5c6d";
const port = 18_302;
const minutes = (count: number): number => count * 60_000;
/** Of the 15 GiB of the stand-in for a T4: one fits, two do not. */
const holds = 9000;

let bed: Bed;
let host: BedHost;
let stack: Stack;

beforeAll(async () => {
  const [services, caddy] = [await stubGpuImage(), await caddyImage()];
  bed = await Bed.start([{ name: "gpu-1", gpus: [{ uuid: card }] }]);
  host = bed.host("gpu-1");
  const images = { services: await pinned(bed, host, services), proxy: await pinned(bed, host, caddy) };
  stack = await Stack.create(bed, { hosts: ["gpu-1"], services: [embedder({})], images });
}, minutes(30));

afterAll(async () => {
  await stack.close();
  await bed.stop();
});

function embedder(env: Readonly<Record<string, string>>): string {
  const values = Object.entries({ BED_HOLDS_MIB: String(holds), ...env }).map(([name, value]) => `${name}: "${value}"`);
  return `embedder: { model: all-MiniLM-L6-v2, port: ${port}, gpu: ${card}, device: { prefer: cuda, require: cuda }, env: { ${values.join(", ")} } }`;
}

const wish = (env: Readonly<Record<string, string>>): void => {
  stack.write({ services: [embedder(env)], extra: ["load: 2m", "keepWarm: 10m"] });
};

const answers = (): Promise<boolean> =>
  fetch(`http://${host.address}:${port}/health`, { signal: AbortSignal.timeout(5000) }).then(
    ({ status }) => status === 200,
    () => false,
  );

/** Status ends with 1 while a deploy is unfinished, and says all the same what serves. */
const serving = async (): Promise<string | undefined> => {
  const { stdout } = await stack.run(["status", "-e", "prod", "--json"]);
  const { services } = (JSON.parse(stdout) as { result: { services: { instance: string; traffic: string }[] } }).result;
  return services.find(({ traffic }) => traffic === "open")?.instance;
};

test(
  "the plan says it, the old instance makes room, and the new one serves after a gap",
  async () => {
    const first = await stack.run(["deploy", "-e", "prod"]);
    expect(first.code, first.stderr).toBe(0);
    wish({ NOTE: "second" });
    const plan = await stack.run(["plan", "-e", "prod"]);
    expect(plan.stdout).toMatch(/stop-first \(gpu-1, GPU-5d3c1ab0\S+: \d+ MiB are free and the candidate needs 9000 MiB/);
    const upgrade = await stack.run(["deploy", "-e", "prod"]);
    expect(upgrade.code, upgrade.stderr).toBe(0);
    expect(await answers()).toBe(true);
    expect(await serving()).toMatch(/^embedder-r2-/);
  },
  minutes(10),
);

test(
  "a candidate that fails gives its card back: the old instance serves again",
  async () => {
    const before = await serving();
    wish({ BED_HOLDS_MIB: "0", NOTE: "third" });
    const failed = await stack.run(["deploy", "-e", "prod"]);
    expect(failed.code, failed.stderr).toBe(6);
    expect(failed.stderr).toContain("not on GPU");
    expect(await answers()).toBe(true);
    expect(await serving()).toBe(before);
  },
  minutes(10),
);

test(
  "an operator who is gone leaves nothing dark: the host itself brings the old instance back",
  async () => {
    const before = await serving();
    wish({ NOTE: "fourth" });
    const running = stack.start(["deploy", "-e", "prod"]);
    await running.saysOnStderr(/09 load|start +embedder/);
    await until(async () => !(await answers()), "the old instance has made room", 120_000);
    running.child.kill("SIGKILL");
    await running.ended;
    await until(answers, "the host brought the old instance back", minutes(6));
    expect(await serving()).toBe(before);
    const again = await stack.run(["deploy", "-e", "prod", "--lock-wait", "2m"]);
    expect(again.code, again.stderr).toBe(0);
    expect(await serving()).not.toBe(before);
  },
  minutes(12),
);

/** What drains or ends, as the host has it. */
async function draining(): Promise<{ id: string; gate: () => Promise<string>; container: string }> {
  const id = await serving();
  if (id === undefined) throw new Error("nothing serves");
  const gate = async (): Promise<string> => (await host.must(["cat", `/var/lib/gpuctl/shop/prod/gates/${id}`])).trim();
  return { id, gate, container: `label=dev.gpuctl.instance=${id}` };
}

const proxy = ["curl", "-s", "--unix-socket", "/var/lib/gpuctl/shop/prod/run/proxy/admin.sock"];
const counted = async (): Promise<boolean> =>
  /"num_requests":[1-9]/.test(await host.must([...proxy, "http://localhost/reverse_proxy/upstreams"]));

/** A deploy that is killed while the old instance waits for the end of a request. */
async function killedWhileDraining(gate: () => Promise<string>): Promise<SlowRequest> {
  const request = slowRequest(`http://${host.address}:${port}/embed`, { inputs: "a text that comes slowly" });
  await until(counted, "the proxy counts the request", 30_000);
  const deploy = stack.start(["deploy", "-e", "prod"]);
  await until(async () => (await gate()).startsWith("paused until "), "it drains", 120_000);
  deploy.child.kill("SIGKILL");
  await deploy.ended;
  return request;
}

test(
  "an operator who is gone while the old instance drains leaves nothing dark either: it answers again, and was never ended",
  async () => {
    const { id: before, gate, container } = await draining();
    const running = (): Promise<string> => host.must(["docker", "ps", "--quiet", "--no-trunc", "--filter", container]);
    const ranBefore = await running();
    wish({ NOTE: "fifth" });
    const request = await killedWhileDraining(gate);
    await until(async () => !(await answers()), "nobody else is let in", 20_000);
    // Sooner than the time after which any old instance comes back: the host saw that its operator is gone.
    await until(answers, "it answers again", minutes(2));
    expect(await request.finish()).toBe(200);
    expect(await running()).toBe(ranBefore);
    expect(await serving()).toBe(before);
    const again = await stack.run(["deploy", "-e", "prod", "--lock-wait", "2m"]);
    expect(again.code, again.stderr).toBe(0);
    expect(await serving()).not.toBe(before);
  },
  minutes(12),
);

test(
  "a host that is rebooted while the old instance drains, with nobody left, has it back without anybody's help",
  async () => {
    const { id: before, gate } = await draining();
    wish({ NOTE: "sixth" });
    const request = await killedWhileDraining(gate);
    // The timer that would bring it back ends with the host.
    await host.reboot();
    expect(await gate()).toMatch(/^paused until /);
    await until(answers, "it answers again", minutes(2));
    expect(await serving()).toBe(before);
    expect(await request.finish()).not.toBe(200);
    const again = await stack.run(["deploy", "-e", "prod", "--lock-wait", "2m"]);
    expect(again.code, again.stderr).toBe(0);
    expect(await serving()).not.toBe(before);
  },
  minutes(12),
);
