/**
 * How long a deploy that has nothing to do, and a rollback to a warm release, take on an environment that runs (the quickstart's).
 * Run in the folder of its gpuctl.yaml: node_modules/.bin/node test/bench/lifecycle.mjs [rounds]
 */
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const bin = join(dirname(fileURLToPath(import.meta.url)), "../../cli/bin/run.js");
const rounds = Number(process.argv[2] ?? 5);

/** Runs a command with --json; returns its result and the seconds it took as a whole process. */
function gpuctl(args, env = {}) {
  const begin = performance.now();
  const { status, stdout } = spawnSync(process.execPath, [bin, ...args, "--json"], {
    env: { ...process.env, ...env },
    encoding: "utf8",
  });
  const seconds = (performance.now() - begin) / 1000;
  const document = JSON.parse(stdout);
  if (status !== 0) throw new Error(`gpuctl ${args.join(" ")} ended with ${status}: ${document.error?.message}`);
  return { result: document.result, seconds };
}

const summary = (values, digits) => {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share) => sorted[Math.floor(share * (sorted.length - 1))].toFixed(digits);
  return `median ${at(0.5)}  range ${at(0)} to ${at(1)}  n ${sorted.length}`;
};

const changed = { GPUCTL_SERVICES__EMBEDDER__OPTIONS__MAX_BATCH_TOKENS: "4096" };
const noop = [];
const rollback = [];
const switching = [];
for (let round = 0; round < rounds; round += 1) {
  gpuctl(["deploy"]);
  noop.push(gpuctl(["deploy"]).seconds);
  gpuctl(["deploy", "embedder"], changed);
  const back = gpuctl(["rollback"]);
  if (back.result.path !== "warm") throw new Error(`the rollback took the ${back.result.path} path`);
  rollback.push(back.seconds);
  switching.push(back.result.switchMs);
}
console.log(`deploy, nothing to do, s:       ${summary(noop, 2)}`);
console.log(`rollback, warm, whole, s:       ${summary(rollback, 2)}`);
console.log(`rollback, warm, switching, ms:  ${summary(switching, 0)}`);
