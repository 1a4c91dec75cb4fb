import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { LocalSecretReader } from "../../../cli/src/adapters/secrets/local-secret-reader.js";
import { ConfigInvalid } from "../../../cli/src/domain/errors.js";
import { CollectingProgress } from "../../fakes/collecting-progress.js";
import { temporaryDirectories } from "../../support/temporary.js";

const temporary = temporaryDirectories();

function project(env: Record<string, string> = {}): {
  directory: string;
  reader: LocalSecretReader;
  progress: CollectingProgress;
} {
  const directory = temporary();
  const progress = new CollectingProgress();
  return { directory, progress, reader: new LocalSecretReader(env, join(directory, "gpuctl.yaml"), progress) };
}

describe("a secret", () => {
  it("comes from a variable", async () => {
    expect(await project({ KEY: "v" }).reader.read("API_KEYS", { env: "KEY" })).toBe("v");
  });

  it.each([
    ["is not set", {}],
    ["is empty", { KEY: "" }],
  ])("that is a variable which %s is named, not guessed", async (why, env) => {
    await expect(project(env).reader.read("API_KEYS", { env: "KEY" })).rejects.toMatchObject({
      message: "the secret API_KEYS has no value",
      because: `the variable KEY ${why}`,
    });
  });

  it("comes from a file beside gpuctl.yaml, without the newline an editor adds", async () => {
    const { directory, reader, progress } = project();
    writeFileSync(join(directory, "keys"), "one\ntwo\n\n", { mode: 0o600 });
    expect(await reader.read("API_KEYS", { file: "keys" })).toBe("one\ntwo\n");
    expect(progress.warnings).toEqual([]);
  });

  it("in a file that others can read is used with a warning that does not tell it", async () => {
    const { directory, reader, progress } = project();
    writeFileSync(join(directory, "keys"), "hidden");
    chmodSync(join(directory, "keys"), 0o644);
    expect(await reader.read("API_KEYS", { file: join(directory, "keys") })).toBe("hidden");
    expect(progress.warnings).toHaveLength(1);
    expect(progress.warnings[0]).toMatch(/mode 644.*chmod 600/);
    expect(progress.warnings[0]).not.toContain("hidden");
  });

  it.each([
    ["missing", null],
    ["empty", "\n"],
  ])("whose file is %s is an invalid configuration", async (_, content) => {
    const { directory, reader } = project();
    if (content !== null) writeFileSync(join(directory, "keys"), content, { mode: 0o600 });
    await expect(reader.read("API_KEYS", { file: "keys" })).rejects.toBeInstanceOf(ConfigInvalid);
  });
});
