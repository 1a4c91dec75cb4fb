import { mkdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { HashCache } from "../../../cli/src/adapters/models/file-hash.js";
import { FileModelStore } from "../../../cli/src/adapters/models/file-model-store.js";
import { ModelLock } from "../../../cli/src/adapters/models/model-lock.js";
import type { ModelSource } from "../../../cli/src/domain/config/resolved.js";
import { ConfigInvalid, PreflightRefused } from "../../../cli/src/domain/errors.js";
import { projectConfig } from "../../support/project-config.js";
import { lockText, type ModelSettings, storeModel } from "../../support/stored-model.js";
import { temporaryDirectories } from "../../support/temporary.js";

const temporary = temporaryDirectories();
const never = new AbortController().signal;
const tiny: ModelSource = { source: "package", package: "acme-tiny" };

function world(settings: ModelSettings = {}, source: ModelSource = tiny) {
  const directory = temporary();
  const store = join(directory, "models");
  const stored = storeModel(store, settings);
  const lockFile = join(directory, "gpuctl.lock.json");
  writeFileSync(lockFile, lockText({ tiny: stored }));
  const config = projectConfig(directory, { tiny: source });
  const models = () => new FileModelStore(store, new ModelLock(config.projectFile), new HashCache(join(directory, "cache")));
  return { directory, store, stored, lockFile, config, models };
}

describe("a model of gpuctl.yaml", () => {
  it("is what the lock pins and the store holds", async () => {
    const { models, config, stored } = world();
    const model = await models().resolve("tiny", config);
    expect(model).toMatchObject({ directory: stored.directory, dimension: 4, licence: "MIT", bytes: 11 });
    expect(model.ref).toEqual({
      name: "tiny",
      id: stored.id,
      revision: stored.revision,
      manifest: stored.manifest,
      files: stored.files,
      generation: "acme/tiny@1.0-abc|mean|normalized||4",
    });
    expect(await models().find(model.ref)).toMatchObject({ directory: stored.directory });
  });

  it("is refused before it was ever fetched, with the command that fetches it", async () => {
    const { models, config, lockFile } = world();
    rmSync(lockFile);
    await expect(models().resolve("tiny", config)).rejects.toMatchObject({
      constructor: PreflightRefused,
      nextSteps: ["gpuctl models fetch"],
    });
  });

  it("is refused when its files are gone", async () => {
    const { models, config, stored } = world();
    const { ref } = await models().resolve("tiny", config);
    rmSync(stored.directory, { recursive: true });
    await expect(models().resolve("tiny", config)).rejects.toBeInstanceOf(PreflightRefused);
    expect(await models().find(ref)).toBeNull();
  });

  it("is refused when the store holds another manifest than the lock pins", async () => {
    const { models, config, store } = world();
    storeModel(store, { probe: 0.6 });
    await expect(models().resolve("tiny", config)).rejects.toThrow(/not the one that the lock pins/);
  });

  it("is accepted from another machine's lock when only its own recorded answers differ", async () => {
    const { models, config, store } = world({ origin: "self-recorded" });
    storeModel(store, { origin: "self-recorded", probe: 0.5000001 });
    expect((await models().resolve("tiny", config)).ref.revision).toBe("1.0-abc");
    storeModel(store, { origin: "self-recorded", files: { "model.onnx": "other", "tokenizer.json": "{}", "config.json": "{}" } });
    await expect(models().resolve("tiny", config)).rejects.toThrow(/not the one that the lock pins/);
  });

  it.each<[string, ModelSource]>([
    ["another package", { source: "package", package: "acme-huge" }],
    ["another version", { source: "package", package: "acme-tiny==2.0" }],
    ["another kind of source", { source: "path", path: "./model" }],
    ["another pooling", { ...tiny, pooling: "cls" }],
    ["another length", { ...tiny, maxTokens: 128 }],
  ])("is refused when gpuctl.yaml names %s since the fetch", async (_, source) => {
    const { models, config } = world({}, source);
    await expect(models().resolve("tiny", config)).rejects.toMatchObject({
      nextSteps: ["gpuctl models fetch --update"],
      data: { changed: true },
    });
  });

  it("is an invalid configuration when no such name exists", async () => {
    const { models, config } = world();
    await expect(models().resolve("huge", config)).rejects.toBeInstanceOf(ConfigInvalid);
  });
});

describe("the model lock", () => {
  it.each(["<<<<<<< HEAD\n{}", "[]", '{"schemaVersion":2,"models":{}}', '{"schemaVersion":1,"models":{"a":{"id":1}}}'])(
    "that reads %s is said to be broken",
    async (text) => {
      const { models, config, lockFile } = world();
      writeFileSync(lockFile, text);
      await expect(models().resolve("tiny", config)).rejects.toThrow(/model lock cannot be read/);
    },
  );

  it("is written sorted, readable by all, and back again", async () => {
    const { config, stored, lockFile } = world();
    const { id, revision, manifest, files } = stored;
    const lock = new ModelLock(config.projectFile);
    await lock.write({ z: { id, revision, manifest, files }, a: { id, revision, manifest, files } });
    expect(Object.keys(await lock.read())).toEqual(["a", "z"]);
    expect(statSync(lockFile).mode & 0o777).toBe(0o644);
    expect(readFileSync(lockFile, "utf8").endsWith("}\n")).toBe(true);
  });
});

describe("verifying a model", () => {
  it("finds nothing wrong with what was fetched", async () => {
    const { models, config } = world();
    expect(await models().verify(await models().resolve("tiny", config), never)).toEqual([]);
  });

  it("names the file with the expected and the actual hash", async () => {
    const { models, config, stored } = world();
    const model = await models().resolve("tiny", config);
    writeFileSync(join(stored.directory, "model.onnx"), "WEIGHTS");
    rmSync(join(stored.directory, "config.json"));
    const problems = await models().verify(model, never);
    expect(problems).toEqual([
      {
        file: join(stored.directory, "model.onnx"),
        because: expect.stringMatching(
          new RegExp(`[0-9a-f]{64}, and the manifest says ${String(stored.files["model.onnx"])}`),
        ) as string,
      },
      { file: join(stored.directory, "config.json"), because: "it is missing" },
    ]);
  });

  it("is quick for a file that did not change, notices one that did, and is never fooled in full", async () => {
    const { models, config, stored, directory } = world();
    const model = await models().resolve("tiny", config);
    expect(await models().verifyQuickly(model, never)).toEqual([]);
    expect(Object.keys(JSON.parse(readFileSync(join(directory, "cache/model-hashes.json"), "utf8")) as object)).toHaveLength(3);
    const file = join(stored.directory, "model.onnx");
    const { atime, mtime } = statSync(file);
    writeFileSync(file, "weightS");
    expect(await models().verifyQuickly(model, never)).toHaveLength(1);
    utimesSync(file, atime, mtime);
    expect(await models().verify(model, never)).toHaveLength(1);
  });

  it("survives a damaged cache of hashes", async () => {
    const { models, config, directory } = world();
    const model = await models().resolve("tiny", config);
    mkdirSync(join(directory, "cache"));
    writeFileSync(join(directory, "cache/model-hashes.json"), "{half");
    expect(await models().verifyQuickly(model, never)).toEqual([]);
  });
});

describe("the model store", () => {
  it("lists every whole model and passes over what is not one", async () => {
    const { models, store } = world();
    storeModel(store, { id: "acme/other", revision: "2" });
    mkdirSync(join(store, ".staging/x"), { recursive: true });
    mkdirSync(join(store, "broken/1"), { recursive: true });
    writeFileSync(join(store, "broken/1/manifest.json"), "{");
    writeFileSync(join(store, "README"), "");
    expect((await models().list()).map((model) => model.ref.id)).toEqual(["acme/other", "acme/tiny"]);
  });

  it("does not read files outside a model's directory", async () => {
    const { models, store, config } = world();
    const evil = storeModel(store, { revision: "evil", files: { "../outside.txt": "x" } });
    expect(evil.revision).toBe("evil");
    expect((await models().list()).map((model) => model.ref.revision)).toEqual(["1.0-abc"]);
    expect((await models().resolve("tiny", config)).ref.revision).toBe("1.0-abc");
  });
});
