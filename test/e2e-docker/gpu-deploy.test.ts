/**
 * Deploys to a host with GPUs that are not there: the services' image with the tests' engine says `cuda`, and what nvidia-smi and
 * Docker's control groups show on the host decides whether it is believed.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { Bed } from "../support/bed/bed.js";
import type { BedHost } from "../support/bed/host.js";
import { caddyImage, stubGpuImage } from "../support/bed/images.js";
import type { ReleaseRecord } from "../../cli/src/domain/release.js";
import { askEmbedder, leastOfFifty, pinned, Stack, SteadyClient } from "../support/bed/stack.js";
import type { Ran } from "../support/sandbox.js";

const card = "GPU-5d3c1ab0-6f0e-4c55-9d0a-1f2f3a4b5c6d";
const otherCard = "GPU-0aa1b2c3-d4e5-4f60-8a7b-9c8d7e6f5a4b";
const port = 18_301;

let bed: Bed;
let host: BedHost;
let stack: Stack;

beforeAll(async () => {
  const [services, caddy] = [await stubGpuImage(), await caddyImage()];
  bed = await Bed.start([{ name: "gpu-1", gpus: [{ uuid: otherCard }, { uuid: card }] }]);
  host = bed.host("gpu-1");
  const images = { services: await pinned(bed, host, services), proxy: await pinned(bed, host, caddy) };
  stack = await Stack.create(bed, { hosts: ["gpu-1"], services: [embedder()], images });
}, 1_800_000);

afterAll(async () => {
  await stack.close();
  await bed.stop();
});

afterEach(() => {
  host.gpus?.change((state) => (state.listsProcesses = true));
});

interface Wish {
  device?: string;
  env?: Readonly<Record<string, string>>;
}

function embedder({ device = "{ prefer: cuda, require: cuda }", env = {} }: Wish = {}): string {
  const values = Object.entries(env).map(([name, value]) => `${name}: "${value}"`);
  const parts = [
    "model: all-MiniLM-L6-v2",
    `port: ${port}`,
    `gpu: ${card}`,
    `device: ${device}`,
    `env: { ${values.join(", ")} }`,
    // What says that it is a GPU computes on the CPU: batches as large as a GPU's would take it minutes.
    "options: { maxBatchTokens: 1024 }",
  ];
  return `embedder: { ${parts.join(", ")} }`;
}

async function deploy(wish: Wish, load = "2m"): Promise<Ran> {
  stack.write({ services: [embedder(wish)], extra: [`load: ${load}`] });
  return stack.run(["deploy", "-e", "prod"]);
}

interface Status {
  release: { id: string; state: string; rollbackOf: string | null } | null;
  services: readonly { device: string | null; proof: string | null; status: string | null; reason: string | null }[];
}

/** It ends with 1 where something is wrong, a degraded service among that. */
async function status(): Promise<Status> {
  const { stdout } = await stack.run(["status", "-e", "prod", "--json"]);
  return (JSON.parse(stdout) as { result: Status }).result;
}

/** The record of the release that serves, as the node keeps it. */
async function record(): Promise<ReleaseRecord> {
  const id = (await status()).release?.id ?? "";
  const said = await host.must(["cat", `/var/lib/gpuctl/shop/prod/releases/${id}.json`]);
  return (JSON.parse(said) as { body: { record: ReleaseRecord } }).body.record;
}

const ask = (): Promise<Response> => askEmbedder(host.address, port);

/** A deploy that has to fail while the old release answers everything. */
async function refused(wish: Wish, load?: string): Promise<Ran> {
  const before = await status();
  const client = new SteadyClient(ask, 20);
  const ran = await deploy(wish, load);
  const { perSecond } = await client.stop();
  expect(ran.code, ran.stderr).toBe(6);
  expect(client.lapses).toEqual({});
  expect(client.answers).toBeGreaterThan(5);
  expect(perSecond).toBeGreaterThan(leastOfFifty);
  const after = await status();
  expect(after.release?.id).toBe(before.release?.id);
  expect(after.services).toMatchObject([{ device: "cuda", status: "healthy" }]);
  return ran;
}

/** As after cards were put into other places without `nvidia-ctk cdi generate`: each name gives the other card. */
function swapCards(): void {
  const file = join(host.root, "etc/cdi/nvidia.json");
  const swapped = readFileSync(file, "utf8").replaceAll(/BED_GPUS=(GPU-[0-9a-f-]+)"/g, (_, uuid) =>
    uuid === card ? `BED_GPUS=${otherCard}"` : `BED_GPUS=${card}"`,
  );
  writeFileSync(file, swapped);
}

test("a first deploy is proven by its process on the GPU that it was given", async () => {
  const ran = await deploy({});
  expect(ran.code, ran.stderr).toBe(0);
  expect(ran.stderr).toMatch(new RegExp(`level process: pid \\d+ of its container holds 2048 MiB on ${card}`));
  expect((await status()).services).toMatchObject([{ device: "cuda", proof: "process", status: "healthy" }]);
  expect((await record()).services.embedder).toMatchObject({ proof: { device: "cuda", level: "process" }, peakMiB: 2048 });
  expect((await ask()).headers.get("x-gpuctl-device")).toBe("cuda");
}, 600_000);

test("what says cuda and holds no memory of the GPU is not believed", async () => {
  const ran = await refused({ env: { BED_HOLDS_MIB: "0" } });
  expect(ran.stderr).toMatch(/the device-proof gate failed: not on GPU: memory on GPU-5d3c\S+ rose by 0 MiB/);
}, 600_000);

test("memory on another GPU than the one that was given is not its proof", async () => {
  swapCards();
  try {
    const ran = await refused({ env: { BED_HOLDS_MIB: "1024" } });
    expect(ran.stderr).toMatch(/not on its GPU: pid \d+ of its container works on GPU-0aa1\S+ and GPU-5d3c\S+ was reserved/);
  } finally {
    swapCards();
  }
}, 600_000);

test("a driver that lists no processes leaves the memory that rose: less than a process, and not enough where that is asked for", async () => {
  host.gpus?.change((state) => (state.listsProcesses = false));
  const asking = await refused({ device: "{ prefer: cuda, require: cuda, proof: process }", env: { BED_HOLDS_MIB: "1024" } });
  expect(asking.stderr).toMatch(/level vram is reached and process is asked for: memory on GPU-5d3c\S+ rose by 1024 MiB/);
  const ran = await deploy({ device: "{ prefer: cuda, require: cuda, proof: vram }", env: { BED_HOLDS_MIB: "1024" } });
  expect(ran.code, ran.stderr).toBe(0);
  expect((await status()).services).toMatchObject([{ device: "cuda", proof: "vram", status: "healthy" }]);
  expect((await record()).services.embedder).toMatchObject({ proof: { device: "cuda", level: "vram" }, peakMiB: 1024 });
}, 600_000);

test("a rollback is proven again, by what is seen then", async () => {
  const ran = await stack.run(["rollback", "-e", "prod"]);
  expect(ran.code, ran.stderr).toBe(0);
  expect(await status()).toMatchObject({ release: { state: "good" }, services: [{ device: "cuda", proof: "process" }] });
  expect((await record()).services.embedder).toMatchObject({ proof: { level: "process" }, peakMiB: 2048 });
}, 600_000);

test("an engine that answers NaN never serves", async () => {
  const ran = await refused({ env: { FAULTY_CUDA: "nan" } });
  expect(ran.stderr).toMatch(/non-finite|NaN|not on GPU/);
}, 600_000);

test("one that exits while it loads is told with the end of its log, one that hangs with its budget", async () => {
  const exits = await refused({ env: { FAULTY_CUDA: "exit-at-load" } });
  expect(exits.stderr).toMatch(/last lines of embedder-r\S+:\n(?:.*\n)*.*the engine's process ended with status 3/);
  const wrong = await refused({ env: { GPUCTL_SLOW_MS: "soon" } });
  expect(wrong.stderr).toMatch(/it exited with status 1: GPUCTL_SLOW_MS='soon': must be a whole number/);
  const hangs = await refused({ env: { FAULTY_CUDA: "hang-at-load" } }, "8s");
  expect(hangs.stderr).toMatch(/it did not finish loading within its budget of 8 s/);
}, 600_000);

test("of two services on a card whose processes nobody lists, each has to explain its own share of the memory", async () => {
  host.gpus?.change((state) => (state.listsProcesses = false));
  const device = "{ prefer: cuda, require: cuda, proof: vram }";
  const both = (holds: string): string[] => [
    embedder({ device, env: { BED_HOLDS_MIB: holds } }),
    embedder({ device, env: { BED_HOLDS_MIB: "1100" } })
      .replace("embedder:", "reranker:")
      .replace(`${port}`, `${port + 1}`),
  ];
  stack.write({ services: both("0"), extra: [] });
  const empty = await stack.run(["deploy", "-e", "prod"]);
  expect(empty.code, empty.stderr).toBe(6);
  expect(empty.stderr).toMatch(
    /level self is reached and vram is asked for: .*rose by 1100 MiB.*reranker-\S+ was started on it too/,
  );
  stack.write({ services: both("900") });
  const ran = await stack.run(["deploy", "-e", "prod"]);
  expect(ran.code, ran.stderr).toBe(0);
  expect(ran.stderr).toMatch(/level vram: memory on GPU-5d3c\S+ rose by 2000 MiB.* beside at most 1112 MiB of reranker-/);
  const proven = { device: "cuda", proof: "vram", status: "healthy" };
  expect((await status()).services).toMatchObject([proven, proven]);
}, 600_000);

test("a GPU that cannot be used is said loudly where the CPU may stand in for it", async () => {
  const ran = await deploy({ device: "cuda", env: { FAULTY_CUDA: "fail-at-load" } });
  expect(ran.code, ran.stderr).toBe(0);
  expect(ran.stderr).toMatch(/though cuda is preferred/);
  expect((await status()).services).toMatchObject([{ device: "cpu", proof: "self", status: "degraded" }]);
  expect((await ask()).headers.get("x-gpuctl-device")).toBe("cpu");
}, 600_000);
