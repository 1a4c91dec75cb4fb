import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { LocalExecutor } from "../../../cli/src/adapters/exec/local-executor.js";
import { LocalSecretReader } from "../../../cli/src/adapters/secrets/local-secret-reader.js";
import { Redaction } from "../../../cli/src/domain/redaction.js";
import { ConfigInvalid, Failed } from "../../../cli/src/domain/errors.js";
import { CollectingProgress } from "../../fakes/collecting-progress.js";
import { temporaryDirectories } from "../../support/temporary.js";

const temporary = temporaryDirectories();

function project(env: Record<string, string> = {}): {
  directory: string;
  reader: LocalSecretReader;
  progress: CollectingProgress;
  redaction: Redaction;
} {
  const directory = temporary();
  const progress = new CollectingProgress();
  const executor = new LocalExecutor({ PATH: process.env["PATH"], ...env });
  const redaction = new Redaction();
  const projectFile = join(directory, "gpuctl.yaml");
  return { directory, progress, redaction, reader: new LocalSecretReader({ env, projectFile, progress, executor, redaction }) };
}

describe("a secret", () => {
  it("comes from a variable", async () => {
    expect(await project({ KEY: "v" }).reader.read("API_KEYS", { env: "KEY" })).toBe("v");
  });

  it("that was read is not told any more", async () => {
    const { reader, redaction } = project({ KEY: "wombat-42" });
    expect(redaction.of("wombat-42")).toBe("wombat-42");
    await reader.read("API_KEYS", { env: "KEY" });
    expect(redaction.of("it printed wombat-42")).toBe("it printed [secret]");
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

  it("is what a command prints, run by a shell in the folder of gpuctl.yaml", async () => {
    const { directory, reader } = project();
    writeFileSync(join(directory, "keys"), "first\nsecond\n");
    expect(await reader.read("API_KEYS", { command: "head -n 1 keys | tr a-z A-Z" })).toBe("FIRST");
  });

  it.each([
    ["fails", "printf hidden; printf hidden >&2; exit 3", "it ended with status 3"],
    ["prints nothing", "true", "it printed nothing"],
    ["is killed", "kill -9 $$", "it was ended by SIGKILL"],
  ])("of a command that %s is refused, and nothing that it printed is told", async (_, command, why) => {
    const failure: unknown = await project()
      .reader.read("API_KEYS", { command })
      .catch((error: unknown) => error);
    expect(failure).toMatchObject({ because: `${command}: ${why}` });
    expect(JSON.stringify(failure, Object.getOwnPropertyNames(failure)).replaceAll(command, "")).not.toContain("hidden");
  });

  it("of a command that waits for somebody is given up", async () => {
    const late = { run: () => Promise.reject(new Failed("sh did not end", { because: "hidden" })) };
    const reader = new LocalSecretReader({
      env: {},
      projectFile: "/nowhere/gpuctl.yaml",
      progress: new CollectingProgress(),
      executor: late,
      redaction: new Redaction(),
    });
    await expect(reader.read("API_KEYS", { command: "pass show x" })).rejects.toMatchObject({
      because: "pass show x: it did not end within 10 s",
    });
  });
});
