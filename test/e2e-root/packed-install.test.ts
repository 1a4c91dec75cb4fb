import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PackageBuildContext } from "../../cli/src/adapters/images/package-context.js";
import { installPacked } from "../support/packed.js";
import { repository, Sandbox } from "../support/sandbox.js";

/** What somebody gets who has no clone: the tarball, installed globally from an empty folder, on its own. */
describe("the packed tarball", () => {
  let scratch: string;
  let prefix: string;
  let installSeconds: number;
  const installed = (...path: string[]): string => join(prefix, "lib/node_modules/gpuctl", ...path);

  beforeAll(() => {
    scratch = mkdtempSync(join(tmpdir(), "gpuctl-packed-"));
    ({ prefix, seconds: installSeconds } = installPacked(scratch));
  });

  afterAll(() => {
    rmSync(scratch, { recursive: true, force: true });
  });

  test("is small and installs in seconds, with neither Pulumi nor TypeScript nor a Node of its own", () => {
    expect(installSeconds).toBeLessThan(60);
    const packages = readdirSync(installed("node_modules")).flatMap((name) =>
      name.startsWith("@") ? readdirSync(installed("node_modules", name)).map((inner) => `${name}/${inner}`) : [name],
    );
    expect(packages).toEqual(expect.arrayContaining(["@oclif/core", "zod", "yaml", "undici"]));
    expect(packages.filter((name) => /^(@pulumi\/.*|typescript|node|vitest|eslint|tsx)$/.test(name))).toEqual([]);
    expect(megabytes(installed())).toBeLessThan(40);
  });

  test("carries what a deploy needs, and nothing of the repository's workshop", () => {
    const { file, sha256 } = JSON.parse(readFileSync(installed("dist/python/wheel.json"), "utf8")) as {
      file: string;
      sha256: string;
    };
    expect(sha256).toMatch(/^[0-9a-f]{64}$/);
    for (const path of [
      `dist/python/${file}`,
      "dist/help.txt",
      "compose/services/locks/runtime.txt",
      "compose/services/locks/model-minilm.txt",
      "gpuctl.schema.json",
      "oclif.manifest.json",
      "CHANGELOG.md",
    ]) {
      expect(existsSync(installed(path)), path).toBe(true);
    }
    expect(readdirSync(installed()).filter((name) => /^(test|scripts|\.ci|\.stamp|node_modules\/\.bin)$/.test(name))).toEqual([]);
    // Of the infrastructure the one script that `gpuctl host prepare` sends; the Pulumi program is used from a checkout.
    expect(readdirSync(installed("infra"), { recursive: true })).toEqual(["host", "host/prepare-host.sh"]);
    expect(readFileSync(installed("infra/host/prepare-host.sh"), "utf8")).toBe(
      readFileSync(join(repository, "infra/host/prepare-host.sh"), "utf8"),
    );
  });

  test("carries what images are built from and what runs them by hand, each file as it is in the repository", async () => {
    const files = await new PackageBuildContext(installed()).files();
    expect(files).toEqual(await new PackageBuildContext(repository).files());
    for (const name of ["compose.yaml", "compose.gpu.yaml", "compose.cpu.yaml", "compose.redis.yaml", ".env.example"])
      expect(existsSync(installed("compose", name)), name).toBe(true);
    const carried = readdirSync(installed("compose"), { recursive: true, encoding: "utf8" });
    expect(carried.filter((path) => /__pycache__|_cache(\/|$)|\.pyc$|services\/tests/.test(path))).toEqual([]);
  });

  test("answers from anywhere, by the name on PATH", () => {
    const run = spawnSync("gpuctl", ["--version"], {
      cwd: scratch,
      encoding: "utf8",
      env: { PATH: `${join(prefix, "bin")}:${dirname(process.execPath)}:${process.env["PATH"] ?? ""}`, HOME: scratch },
    });
    expect(run.stderr).toBe("");
    expect(run.stdout).toMatch(/^gpuctl\/\d+\.\d+\.\d+ /);
  });

  test("deploys, serves and goes away, with its own wheel and no clone in sight", async () => {
    const sandbox = await Sandbox.create({ services: ["embedder"], soak: "1s" });
    const program = installed("cli/bin/run.js");
    try {
      await sandbox.resultOf(program, ["models", "fetch"]);
      await sandbox.resultOf(program, ["deploy"]);
      const answer = await sandbox.post("embedder", "/embed", { inputs: ["from a tarball"] });
      expect(answer.status).toBe(200);
      await sandbox.resultOf(program, ["destroy", "--confirm", "local"]);
    } finally {
      await sandbox.close();
    }
  });
});

function megabytes(directory: string): number {
  const files = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return files.reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0) / 2 ** 20;
}
