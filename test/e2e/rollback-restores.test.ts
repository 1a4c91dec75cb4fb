import { createHash } from "node:crypto";
import { appendFileSync, cpSync, existsSync, mkdirSync, readFileSync, readdirSync, symlinkSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { changedWheel } from "../support/faulty-wheel.js";
import { repository, Sandbox } from "../support/sandbox.js";
import { servingPid } from "../support/serving.js";

/** What decides how the embedder behaves, read from the running process itself. */
interface Running {
  python: string;
  code: string;
  model: string;
  batch: string | undefined;
  own: string | undefined;
  secret: string | undefined;
}

async function running(sandbox: Sandbox): Promise<Running> {
  const pid = String(await servingPid(sandbox, "embedder"));
  const env = Object.fromEntries(
    readFileSync(`/proc/${pid}/environ`, "utf8")
      .split("\0")
      .filter((line) => line.includes("="))
      .map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
  );
  const secrets = env["GPUCTL_SECRETS_DIR"];
  const secret =
    secrets !== undefined && existsSync(join(secrets, "TOKEN")) ? readFileSync(join(secrets, "TOKEN"), "utf8") : undefined;
  return {
    python: readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")[0] ?? "",
    code: env["PYTHONPATH"] ?? "",
    model: env["GPUCTL_MODEL_DIR"] ?? "",
    batch: env["GPUCTL_MAX_BATCH_TOKENS"],
    own: env["OWN_SETTING"],
    secret,
  };
}

/** Another version of gpuctl: the same package with another Python lock, whose environment is a second folder. */
function otherVersion(directory: string, cache: string): string {
  const copy = join(directory, "gpuctl-next");
  mkdirSync(join(copy, "cli"), { recursive: true });
  for (const part of ["package.json", "dist", "cli/bin", "oclif.manifest.json", "gpuctl.schema.json", "compose/services/locks"]) {
    cpSync(join(repository, part), join(copy, part), { recursive: true });
  }
  symlinkSync(join(repository, "node_modules"), join(copy, "node_modules"));
  const lock = join(copy, "compose/services/locks/runtime.txt");
  const before = environmentOf(readFileSync(lock));
  appendFileSync(lock, "# another lock\n");
  const real = join(
    process.env["GPUCTL_CACHE_DIR"] ?? join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "gpuctl"),
    "python",
  );
  const built = readdirSync(real).find((name) => name.startsWith(before));
  if (built === undefined) throw new Error(`no Python environment ${before} in ${real}`);
  for (const name of [built, built.replace(before, environmentOf(readFileSync(lock)))]) {
    lookalike(join(real, built), join(cache, "python", name));
  }
  return copy;
}

/** An environment of its own, with its own claims, whose contents are links into a real one. */
function lookalike(real: string, target: string): void {
  mkdirSync(target, { recursive: true });
  for (const entry of readdirSync(real).filter((name) => name !== ".users")) symlinkSync(join(real, entry), join(target, entry));
}

const environmentOf = (lock: Buffer): string => createHash("sha256").update(lock).digest("hex").slice(0, 16);

describe.each([
  ["from the files on this machine", "0s"],
  ["to an instance that is still warm", "10m"],
])("a rollback %s", (_what, keepWarm) => {
  let sandbox: Sandbox;
  let env: Record<string, string>;
  let next: string;
  let first: Running;
  const extra = `    keepWarm: ${keepWarm}\n`;
  const config = (embedder: string): void => {
    sandbox.writeConfig({ services: ["embedder"], soak: "1s", extra, ...(embedder === "" ? {} : { options: { embedder } }) });
  };

  beforeAll(async () => {
    sandbox = await Sandbox.create({ services: ["embedder"], soak: "1s", extra });
    const store = join(sandbox.directory, "models");
    cpSync(process.env["GPUCTL_TEST_MODEL_STORE"] ?? "", store, { recursive: true });
    const cache = join(sandbox.directory, "cache");
    next = otherVersion(sandbox.directory, cache);
    env = { GPUCTL_MODEL_STORE: store, GPUCTL_CACHE_DIR: cache, SECRET_VALUE: "first value" };
    Object.assign(sandbox.env, env);
    config("secrets: { TOKEN: { env: SECRET_VALUE } }");
    await sandbox.result(["deploy"]);
    first = await running(sandbox);
    expect(first.secret).toBe("first value");
  }, 120_000);

  afterAll(async () => {
    await sandbox.close();
  });

  const comesBack = async (change: () => Promise<unknown>, field: keyof Running): Promise<void> => {
    await change();
    const changed = await running(sandbox);
    expect(changed[field]).not.toBe(first[field]);
    config("secrets: { TOKEN: { env: SECRET_VALUE } }");
    await sandbox.result(["rollback"]);
    expect(await running(sandbox)).toEqual(first);
    expect((await sandbox.post("embedder", "/embed", { inputs: ["back"] })).status).toBe(200);
  };

  test("restores the code", async () => {
    await comesBack(() => sandbox.result(["deploy"], { GPUCTL_WHEEL: changedWheel(sandbox.directory, "newcode") }), "code");
  }, 90_000);

  test("restores the Python environment", async () => {
    await comesBack(() => sandbox.resultOf(join(next, "cli/bin/run.js"), ["deploy"]), "python");
  }, 90_000);

  test("restores the model", async () => {
    await comesBack(async () => {
      const tiny = join(repository, "test/golden/models/tiny-xlmr-embedder");
      sandbox.writeConfig({ services: ["embedder"], soak: "1s", extra, model: { name: "tiny", path: tiny } });
      await sandbox.result(["models", "fetch"]);
      return sandbox.result(["deploy"]);
    }, "model");
  }, 90_000);

  test("restores an option", async () => {
    await comesBack(() => {
      config("secrets: { TOKEN: { env: SECRET_VALUE } }, options: { maxBatchTokens: 2048 }");
      return sandbox.result(["deploy"]);
    }, "batch");
  }, 90_000);

  test("restores the environment", async () => {
    await comesBack(() => {
      config("secrets: { TOKEN: { env: SECRET_VALUE } }, env: { OWN_SETTING: changed }");
      return sandbox.result(["deploy"]);
    }, "own");
  }, 90_000);

  test("restores a secret's old value", async () => {
    await comesBack(() => sandbox.result(["deploy"], { SECRET_VALUE: "second value" }), "secret");
  }, 90_000);
});
