/** What a deploy to hosts looks at before it touches anything, what it remembers of them, and how their services are reached. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { HealthReport } from "../../cli/src/app/health.js";
import type { StatusReport } from "../../cli/src/app/status.js";
import { Bed } from "../support/bed/bed.js";
import { caddyImage, stubGpuImage } from "../support/bed/images.js";
import { askEmbedder, leastOfFifty, pinned, Stack, SteadyClient, type StackOptions } from "../support/bed/stack.js";

const uuid = "GPU-5a1c3d0e-7b52-4f0a-9c1e-0d6a1f2b3c4d";
const images = { services: "", proxy: "" };
const onGpu = (options = ""): string =>
  `embedder: { model: all-MiniLM-L6-v2, port: 18101, gpu: ${uuid}, device: { prefer: cuda, require: cuda }${options} }`;
const onCpu = "embedder: { model: all-MiniLM-L6-v2, port: 18102, device: { prefer: cpu } }";
const index = "index: { port: 18103, device: { prefer: cpu } }";

let bed: Bed;
let stack: Stack | null = null;

beforeAll(async () => {
  const [services, caddy] = [await stubGpuImage(), await caddyImage()];
  bed = await Bed.start([
    { name: "gpu", gpus: [{ uuid }] },
    { name: "small", dockerMiB: 900 },
  ]);
  images.services = await pinned(bed, bed.host("gpu"), services);
  images.proxy = await pinned(bed, bed.host("gpu"), caddy);
}, 1_800_000);

afterEach(async () => {
  await stack?.close();
  stack = null;
}, 120_000);

afterAll(async () => {
  await bed.stop();
});

async function deployed(options: Omit<StackOptions, "images">): Promise<Stack> {
  stack = await Stack.create(bed, { ...options, images });
  return stack;
}

const containers = (host: string): Promise<string> =>
  bed.host(host).must(["docker", "ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}}"]);

describe("a deploy that cannot end well", () => {
  test("is refused for a disk on which images and models do not fit, before anything is fetched", async () => {
    const { run } = bound(await deployed({ hosts: ["small"], services: [onCpu] }));
    await bed.host("small").fillDisk(300);
    const refused = await run(["deploy", "-e", "prod"]);
    await bed.host("small").emptyDisk();
    expect(refused.code, refused.stderr).toBe(5);
    expect(refused.stderr).toMatch(/small: \/var\/lib\/docker: 0\.3 GB free for images and models/);
    expect(refused.stderr).not.toContain("stage-code");
    expect(await bed.host("small").must(["docker", "image", "ls", "--quiet"])).toBe("");
  }, 300_000);

  test("is refused where the registry is down and the image is not on the host", async () => {
    const { run } = bound(await deployed({ hosts: ["small"], services: [onCpu] }));
    await bed.registry.stop();
    const refused = await run(["deploy", "-e", "prod"]);
    await bed.registry.start();
    expect(refused.code, refused.stderr).toBe(5);
    expect(refused.stderr).toContain("could not be pulled on small");
    expect(refused.stderr).toContain("the registry of the image must answer");
    expect(await containers("small")).toBe("");
  }, 300_000);
});

test("services that a host publishes for itself only are reached by SSH, until the command ends", async () => {
  const { run, result } = bound(await deployed({ hosts: ["gpu"], bind: "127.0.0.1", services: [onCpu, index] }));
  const first = await run(["deploy", "-e", "prod"]);
  expect(first.code, first.stderr).toBe(0);
  expect(first.stdout).toContain("embedder  http://127.0.0.1:18102 on gpu");
  const health = await result<HealthReport>(["health", "-e", "prod"]);
  expect(health.services.map(({ node, address, status }) => [node, address, status])).toEqual([
    ["gpu", "http://127.0.0.1:18102", "healthy"],
    ["gpu", "http://127.0.0.1:18103", "healthy"],
  ]);
  const notes = join(stack?.sandbox.directory ?? "", "notes.md");
  writeFileSync(notes, "# Rollback\n\nA rollback is one switch of traffic.\n");
  await result(["index", "add", notes, "-e", "prod"]);
  expect(await result(["index", "stats", "-e", "prod"])).toMatchObject({ items: 1 });
  const answer = await run(["query", "what is a rollback?", "-e", "prod"]);
  expect(answer.code, answer.stderr).toBe(0);
  expect(answer.stdout).toContain("one switch of traffic");
  const bench = await run(["bench", "embed", "--quick", "--duration", "2s", "--warm-up", "1s", "-e", "prod"]);
  expect(bench.code, bench.stderr).toBe(0);
  expect(bench.stderr).toContain("the embedder is reached by SSH, whose time is in every figure");
  const files = await run(["index", "backup", "--to", "/tmp/copy", "-e", "prod"]);
  expect(files.code).toBe(5);
  expect(files.stderr).toContain("gpu");
}, 900_000);

describe("a service on the GPU of a host", () => {
  test("is not touched by a deploy after the driver was upgraded under it; status knows what the host was", async () => {
    const { run, result } = bound(await deployed({ hosts: ["gpu"], services: [onGpu()] }));
    const first = await run(["deploy", "-e", "prod"]);
    expect(first.code, first.stderr).toBe(0);
    const { address } = bed.host("gpu");
    const seen = await result<StatusReport>(["status", "-e", "prod"]);
    expect(seen.services[0]).toMatchObject({ device: "cuda", addresses: [`http://${address}:18101`] });
    expect(seen.nodes).toMatchObject([
      {
        node: "gpu",
        silent: null,
        records: "whole",
        services: [{ service: "embedder", process: { state: "running" }, traffic: "open" }],
        seen: { driver: "580.95.05", gpus: [{ uuid, name: "Tesla T4", totalMiB: 15360 }], clock: {}, disk: {} },
      },
    ]);
    expect(seen.nodes[0]?.seen?.docker).toMatch(/^\d+\./);
    const text = await run(["status", "-e", "prod"]);
    expect(text.stdout).toMatch(
      /^gpu +embedder open +whole +Tesla T4, \d+ of 15360 MiB free \(\S+embedder\S+ 2048 MiB\) +580\.95\.05$/m,
    );
    expect(text.stdout + text.stderr).not.toMatch(/keeper/i);

    const health = await result<HealthReport>(["health", "-e", "prod"]);
    expect(health.services).toMatchObject([
      { node: "gpu", address: `http://${address}:18101`, device: "cuda", status: "healthy" },
    ]);

    const before = await containers("gpu");
    const client = new SteadyClient(() => embed(address), 20);
    bed.host("gpu").gpus!.upgradeDriver("580.126.02");
    stack?.write({ services: [onGpu(", options: { cacheEntries: 11 }")] });
    const refused = await run(["deploy", "-e", "prod"]);
    const { perSecond } = await client.stop();
    expect(refused.code, refused.stderr).toBe(5);
    expect(refused.stderr).toContain("the NVIDIA driver was upgraded and the machine not restarted");
    expect(refused.stderr).toContain("reboot");
    expect(await containers("gpu")).toBe(before);
    expect(client.lapses).toEqual({});
    expect(client.answers).toBeGreaterThan(5);
    expect(perSecond).toBeGreaterThan(leastOfFifty);
    const after = await run(["status", "-e", "prod"]);
    expect(after.stdout, after.stderr).toMatch(/^gpu +embedder open +whole +cannot be asked +580\.95\.05$/m);
  }, 900_000);
});

const embed = (address: string): Promise<Response> => askEmbedder(address, 18_101);

const bound = (of: Stack): Pick<Stack, "run" | "result"> => ({ run: of.run.bind(of), result: of.result.bind(of) });
