/** Answers shared through a real Redis with a password: across a deploy, not across a change of the model, and never needed. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { freePorts, repository, Sandbox } from "../support/sandbox.js";
import { eventually } from "../support/serving.js";

const password = "not-to-be-seen";
let folder: string;
let port: number;
let redis: ChildProcess;
let sandbox: Sandbox;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "gpuctl-redis-"));
  [port = 0] = await freePorts(1);
  redis = await startRedis();
});

afterEach(async () => {
  await sandbox.close();
  await stopRedis();
  rmSync(folder, { recursive: true, force: true });
});

async function startRedis(): Promise<ChildProcess> {
  const settings = ["--port", String(port), "--bind", "127.0.0.1", "--requirepass", password, "--save", "", "--dir", folder];
  const server = spawn("redis-server", settings, { stdio: "ignore" });
  await eventually(reachable, (yes) => yes);
  return server;
}

async function stopRedis(): Promise<void> {
  if (redis.exitCode !== null || redis.signalCode !== null) return;
  const ended = once(redis, "exit");
  redis.kill("SIGKILL");
  await ended;
}

const reachable = (): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => {
      resolve(false);
    });
  });

/** Embeds texts; how many of them a cache knew. */
async function hits(texts: readonly string[]): Promise<string | null> {
  const answer = await fetch(sandbox.url("embedder", "/embed"), {
    method: "POST",
    headers: { "content-type": "application/json", connection: "close" },
    body: JSON.stringify({ inputs: texts }),
  });
  expect(answer.status).toBe(200);
  await answer.arrayBuffer();
  return answer.headers.get("x-gpuctl-cache");
}

const metrics = async (): Promise<string> => (await fetch(sandbox.url("embedder", "/metrics"))).text();

function configure(options: string, model?: { name: string; path: string }): void {
  const services = ["embedder"] as const;
  const url = `redisUrl: "redis://127.0.0.1:${String(port)}/0", redisTimeout: 500ms`;
  const embedder = `options: { ${url}${options} }, secrets: { REDIS_PASSWORD: { env: TEST_REDIS_PASSWORD } }`;
  sandbox.writeConfig({ services, soak: "1s", options: { embedder }, ...(model && { model }) });
}

const deploy = (): Promise<unknown> => sandbox.result(["deploy"], { TEST_REDIS_PASSWORD: password });

test("what one release computed the next one finds; another model finds nothing; without Redis all go on", async () => {
  sandbox = await Sandbox.create({ services: ["embedder"], soak: "1s" });
  configure("");
  await deploy();
  const texts = Array.from({ length: 20 }, (_, n) => `A sentence about a warehouse, number ${String(n)}.`);
  // Connects at the first request; what it computes before goes no further than its own memory.
  let warm = 0;
  const up = async (): Promise<string> => (await hits([`warm ${String((warm += 1))}`]), metrics());
  await eventually(up, (text) => text.includes("gpuctl_cache_redis_up 1.0"));
  expect(await hits(texts)).toBe("0/20");

  configure(", cacheEntries: 5000");
  await deploy();
  await eventually(up, (text) => text.includes("gpuctl_cache_redis_up 1.0"));
  expect(await hits(texts)).toBe("20/20");
  expect(await metrics()).toMatch(/gpuctl_cache_hits_total\{level="redis"\} 20\.0/);

  configure("", { name: "tiny", path: join(repository, "test/golden/models/tiny-xlmr-embedder") });
  await sandbox.result(["models", "fetch"]);
  await deploy();
  await eventually(up, (text) => text.includes("gpuctl_cache_redis_up 1.0"));
  expect(await hits(texts)).toBe("0/20");

  await stopRedis();
  expect(await hits(texts.map((text) => `${text} Again.`))).toBe("0/20");
  expect(await metrics()).toMatch(/gpuctl_cache_redis_errors_total\{kind="connection"\} [1-9]/);
  redis = await startRedis();
  await eventually(up, (text) => text.includes("gpuctl_cache_redis_up 1.0"), 60_000);

  const { stdout } = await sandbox.run(["logs", "--lines", "2000"]);
  expect(stdout).not.toContain(password);
}, 180_000);
