/** Models that a host fetches itself, from a server that speaks the hub's routes, and files there that are damaged afterwards. */
import { appendFileSync, chmodSync, existsSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Bed } from "../support/bed/bed.js";
import { caddyImage, serviceImage } from "../support/bed/images.js";
import { pinned, Stack, SteadyClient } from "../support/bed/stack.js";
import { ModelHub } from "../support/model-hub.js";
import { repository, type Ran } from "../support/sandbox.js";

const port = 18_101;
const token = "hf_secret_of_this_test";
const hub = new ModelHub(join(repository, "test/golden/models/tiny-xlmr-embedder"));
let bed: Bed;
let stack: Stack;
/** Of the operator: its graph is removed after the fetch, so that only the host can have it. */
let graph: string;

beforeAll(async () => {
  const [services, caddy] = [await serviceImage(), await caddyImage()];
  bed = await Bed.start([{ name: "one" }]);
  const images = { services: await pinned(bed, bed.host("one"), services), proxy: await pinned(bed, bed.host("one"), caddy) };
  await hub.listen(new URL(bed.proxy.url).hostname);
  hub.token = token;
  stack = await Stack.create(bed, {
    hosts: ["one"],
    models: [`tiny: { source: hub, id: ${hub.id}, revision: ${hub.commit}, pooling: cls }`],
    services: [embedder(1)],
    images,
  });
  const fetched = await run(["models", "fetch", "tiny"]);
  if (fetched.code !== 0) throw new Error(fetched.stderr);
  const { models } = JSON.parse(readFileSync(join(stack.sandbox.project, "../gpuctl.lock.json"), "utf8")) as {
    models: Record<string, { revision: string }>;
  };
  graph = join(store(), hub.id.replace("/", "--"), models["tiny"]?.revision ?? "", "model.onnx");
  rmSync(graph);
  hub.requests.length = 0;
}, 1_800_000);

afterAll(async () => {
  await stack.close();
  await hub.close();
  await bed.stop();
});

const embedder = (cacheEntries: number): string =>
  `embedder: { model: tiny, device: cpu, port: ${port}, options: { cacheEntries: ${cacheEntries} } }`;
const store = (): string => join(stack.sandbox.directory, "own-store");
const delivery = (more: string): void => {
  stack.write({ extra: ["soak: 2s", "keepWarm: 0s", `models: { delivery: ${more} }`] });
};
const run = (args: readonly string[]): Promise<Ran> =>
  stack.run([...args, "-e", "prod"], { GPUCTL_MODEL_STORE: store(), HF_ENDPOINT: hub.url, HF_TOKEN: token, HUB_TOKEN: token });
const downloads = (): typeof hub.requests => hub.requests.filter(({ path }) => path.endsWith(".safetensors"));

async function volume(): Promise<string> {
  const host = bed.host("one");
  const name = (await host.must(["docker", "volume", "ls", "--quiet", "--filter", "label=dev.gpuctl.model"])).trim();
  return join(host.root, (await host.must(["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", name])).trim());
}

function ask(): Promise<Response> {
  const url = `http://${bed.host("one").address}:${port}/embed`;
  const headers = { "content-type": "application/json" };
  return fetch(url, { method: "POST", headers, body: '{"inputs":"a text"}', signal: AbortSignal.timeout(20_000) });
}

/** Runs the command beside a steady client, none of whose requests may fail. */
async function underLoad(args: readonly string[]): Promise<Ran> {
  const client = new SteadyClient(ask, 100);
  const ran = await run(args).finally(() => client.stop());
  expect(client.lapses, ran.stderr).toEqual({});
  expect(client.answers).toBeGreaterThan(20);
  return ran;
}

describe("a host that fetches models", () => {
  test("says that copying is the other way when the hub cannot be reached, before anything runs", async () => {
    delivery(`fetch, hub: "http://127.0.0.1:9"`);
    const refused = await run(["deploy"]);
    expect(refused.code, refused.stderr).toBe(5);
    expect(refused.stderr).toContain("the model tiny could not be fetched by one");
    expect(refused.stderr).toContain("models: { delivery: copy }");
    expect(await bed.host("one").must(["docker", "ps", "--all", "--quiet"])).toBe("");
  }, 600_000);

  test("keeps what came when the connection breaks for good, and goes on from there", async () => {
    delivery(`fetch, hub: "${hub.url}", token: { env: HUB_TOKEN }`);
    const half = Math.floor(hub.weightBytes / 2);
    hub.cutAfter = half;
    const broken = await run(["deploy"]);
    expect(broken.code, broken.stderr).toBe(5);
    expect(broken.stderr).toContain("the model tiny could not be fetched by one");
    hub.cutAfter = null;
    hub.requests.length = 0;
    const deployed = await run(["deploy"]);
    expect(deployed.code, deployed.stderr).toBe(0);
    expect(deployed.stderr).toMatch(/3 files fetched by one, hashes verified there/);
    expect(downloads().map(({ range }) => range)).toEqual([`bytes=${half}-`]);
    expect(existsSync(graph)).toBe(false);
    expect((await ask()).status).toBe(200);
    expect(existsSync(join(await volume(), ".fetch"))).toBe(false);
    expect(broken.stderr + deployed.stderr + deployed.stdout).not.toContain(token);
    expect(await bed.host("one").must(["sh", "-c", "grep -rl hf_secret_of_this_test /var/lib/gpuctl || true"])).toBe("");
  }, 600_000);

  test("fetches again what was damaged there, even where size and time look right, before it starts anything with it", async () => {
    const file = join(await volume(), "model.onnx");
    const { mtime } = statSync(file);
    chmodSync(file, 0o644);
    const right = readFileSync(file);
    const wrong = Buffer.from(right);
    wrong[wrong.length - 1] = (wrong.at(-1) ?? 0) ^ 1;
    writeFileSync(file, wrong);
    utimesSync(file, mtime, mtime);
    stack.write({ services: [embedder(2)] });
    const again = await underLoad(["deploy"]);
    expect(again.code, again.stderr).toBe(0);
    expect(again.stderr).toMatch(/3 files fetched by one, hashes verified there/);
    expect(readFileSync(file).equals(right)).toBe(true);
  }, 600_000);

  test("names the file that nobody can give it again", async () => {
    const file = join(await volume(), "tokenizer.json");
    chmodSync(file, 0o644);
    appendFileSync(file, " ");
    delivery("copy");
    stack.write({ services: [embedder(3)] });
    rmSync(join(graph, ".."), { recursive: true });
    const refused = await underLoad(["rollback"]);
    expect(refused.code, refused.stderr).toBe(5);
    expect(refused.stderr).toContain("tokenizer.json");
    expect((await ask()).status).toBe(200);
  }, 600_000);
});
