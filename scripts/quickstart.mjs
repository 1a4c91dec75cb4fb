/**
 * The main job, start to end, on this machine: every command it prints can be typed by hand, so it doubles as the tutorial.
 * Run by `npm run quickstart` after set-up. Ends with the stack running.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import net from "node:net";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { startSteadyLoad } from "./steady-load.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const bin = join(root, "cli/bin/run.js");
const project = join(root, "gpuctl.yaml");

class StepFailed extends Error {}

const say = (text) => process.stdout.write(`${text}\n`);
const shown = (args) => args.map((arg) => (/^[\w@%+=:,./-]+$/.test(arg) ? arg : `"${arg}"`)).join(" ");

/** Runs one gpuctl command in the open, as a user would, and stops the tutorial when it fails. */
async function gpuctl(args, env = {}) {
  const prefix = Object.entries(env).map(([name, value]) => `${name}=${value} `);
  say(`\n$ ${prefix.join("")}npx gpuctl ${shown(args)}`);
  const code = await new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [bin, ...args], { cwd: root, stdio: "inherit", env: { ...process.env, ...env } });
    child.on("error", reject);
    child.on("close", (status, signal) => resolve(signal === null ? status : `signal ${signal}`));
  });
  if (code !== 0) throw new StepFailed(`gpuctl ${shown(args)} ended with ${code}`);
}

/** Runs one gpuctl command with --json and returns its result. */
async function gpuctlJson(args) {
  const out = [];
  const code = await new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [bin, ...args, "--json"], { cwd: root, stdio: ["ignore", "pipe", "ignore"] });
    child.stdout.on("data", (chunk) => out.push(chunk));
    child.on("error", reject);
    child.on("close", resolve);
  });
  const document = JSON.parse(Buffer.concat(out).toString("utf8"));
  if (code !== 0) throw new StepFailed(`gpuctl ${shown(args)} ended with ${code}: ${document.error?.message ?? ""}`);
  return document.result;
}

const isFree = (port) =>
  new Promise((resolve) => {
    const server = net.createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });

/** First of a few port triples that nobody holds, so that a second clone on the same machine gets its own. */
async function freeFirstPort() {
  for (let first = 8001; first < 8100; first += 10) {
    const free = await Promise.all([0, 1, 2].map((offset) => isFree(first + offset)));
    if (free.every(Boolean)) return first;
  }
  throw new StepFailed("no three free ports between 8001 and 8099; give the services other ports in gpuctl.yaml");
}

async function init() {
  if (existsSync(project)) return;
  const first = await freeFirstPort();
  await gpuctl(["init", "--project", "quickstart", ...(first === 8001 ? [] : ["--first-port", String(first)])]);
}

/** Runs a command while a client sends to every service; one failed request fails the quickstart. */
async function underLoad(what, ports, vector, action) {
  const base = (service) => `http://127.0.0.1:${ports[service]}`;
  let n = 0;
  const load = startSteadyLoad(
    [
      { service: "embedder", url: `${base("embedder")}/embed`, body: () => ({ inputs: [`steady load, request ${(n += 1)}`] }) },
      {
        service: "reranker",
        url: `${base("reranker")}/rerank`,
        body: () => ({ query: `load ${(n += 1)}`, texts: ["a rollback restores everything", "a port is taken"] }),
      },
      { service: "index", url: `${base("index")}/api/v1/vector-store/search`, body: () => ({ vector, k: 3 }) },
    ],
    15,
  );
  try {
    await action();
  } finally {
    const { sent, ok, failed } = await load.stop();
    say(`\n  ${what} under load: ${ok} of ${sent} requests answered, ${failed.length} failed`);
    for (const { service, reason } of failed.slice(0, 5)) say(`  failed: ${service}: ${reason}`);
    if (failed.length > 0) throw new StepFailed(`${failed.length} requests failed during the ${what}`);
  }
}

async function embed(port, text) {
  const response = await fetch(`http://127.0.0.1:${port}/embed`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ inputs: [text] }),
  });
  return (await response.json())[0];
}

async function main() {
  await init();
  await gpuctl(["models", "fetch"]);
  await gpuctl(["deploy"]);
  await gpuctl(["health"]);
  await gpuctl(["index", "add", "README.md", "docs"]);
  await gpuctl(["query", "how do I go back to the previous release?"]);
  await gpuctl(["query", "why is my benchmark invalid?"]);
  await gpuctl(["query", "the GPU is there but the service does not use it"]);
  await gpuctl(["bench", "embed", "--quick"]);

  const { listeners } = await gpuctlJson(["status"]);
  const ports = Object.fromEntries(listeners.map(({ service, port }) => [service, port]));
  const vector = await embed(ports.embedder, "rollback");
  say("\nNow an option changes, and the new release takes over while a client keeps sending.");
  const changed = { GPUCTL_SERVICES__EMBEDDER__OPTIONS__MAX_BATCH_TOKENS: "4096" };
  await underLoad("deploy", ports, vector, () => gpuctl(["deploy", "embedder"], changed));
  await underLoad("rollback", ports, vector, () => gpuctl(["rollback"]));
  await gpuctl(["status"]);

  const where = Object.entries(ports).map(([service, port]) => `  ${service.padEnd(9)} http://127.0.0.1:${port}`);
  say(`\nRunning on this machine:\n${where.join("\n")}\n\nTry:      npx gpuctl query "what is a release?"`);
  say("Stop it:  npx gpuctl destroy --confirm local");
}

try {
  await main();
} catch (error) {
  if (!(error instanceof StepFailed)) throw error;
  process.stderr.write(`\nquickstart: ${error.message}\n`);
  process.exitCode = 1;
}
