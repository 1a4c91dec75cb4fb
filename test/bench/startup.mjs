/**
 * Start-up of the CLI against `node -e 0` in the same run: interleaved rounds, medians and spread, in milliseconds.
 * Run: node_modules/.bin/node test/bench/startup.mjs [rounds]
 */
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "../..");
const bin = join(root, "cli/bin/run.js");
const rounds = Number(process.argv[2] ?? 15);
const commands = {
  "node -e 0": ["-e", "0"],
  "gpuctl --version": [bin, "--version"],
  "gpuctl --help": [bin, "--help"],
  "gpuctl deploy --help": [bin, "deploy", "--help"],
};

const times = Object.fromEntries(Object.keys(commands).map((name) => [name, []]));
for (let round = -1; round < rounds; round += 1) {
  for (const [name, args] of Object.entries(commands)) {
    const begin = performance.now();
    const { status } = spawnSync(process.execPath, args, { stdio: "ignore" });
    if (status !== 0) throw new Error(`${name} ended with ${status}`);
    // The first round only fills the compile cache.
    if (round >= 0) times[name].push(performance.now() - begin);
  }
}

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const floor = median(times["node -e 0"]);
console.log(`node ${process.version}, ${rounds} interleaved rounds, ms`);
for (const [name, values] of Object.entries(times)) {
  const own = median(values);
  const range = `${Math.min(...values).toFixed(0)} to ${Math.max(...values).toFixed(0)}`;
  console.log(
    `${name.padEnd(22)} median ${own.toFixed(0).padStart(4)}  range ${range.padEnd(12)} above floor ${(own - floor).toFixed(0).padStart(4)}  ratio ${(own / floor).toFixed(2)}`,
  );
}
