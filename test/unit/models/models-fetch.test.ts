import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { HashCache } from "../../../cli/src/adapters/models/file-hash.js";
import { FileModelStore } from "../../../cli/src/adapters/models/file-model-store.js";
import { ModelLock } from "../../../cli/src/adapters/models/model-lock.js";
import { modelsFetch } from "../../../cli/src/app/models-fetch.js";
import { modelsList } from "../../../cli/src/app/models-list.js";
import { modelsVerify } from "../../../cli/src/app/models-verify.js";
import type { ModelSource } from "../../../cli/src/domain/config/resolved.js";
import { Failed, PreflightRefused, UsageError } from "../../../cli/src/domain/errors.js";
import type { CommandResult, ModelTools } from "../../../cli/src/ports.js";
import { CollectingProgress } from "../../fakes/collecting-progress.js";
import { ScriptedExecutor } from "../../fakes/scripted-executor.js";
import { SteppingClock } from "../../fakes/stepping-clock.js";
import { projectConfig } from "../../support/project-config.js";
import { type ModelSettings, storeModel } from "../../support/stored-model.js";
import { ListedUses } from "../../support/model-uses.js";
import { temporaryDirectories } from "../../support/temporary.js";

const temporary = temporaryDirectories();
const wheelHash = `sha256:${"1".repeat(64)}`;
const packaged: ModelSettings = {
  revision: "1.0-0123456789ab",
  source: { source: "package", package: "acme-tiny==1.0", wheel: wheelHash },
};

/** A project whose fetcher puts `settings` into the store. */
class Project {
  readonly directory = temporary();
  readonly store = join(this.directory, "models");
  readonly progress = new CollectingProgress();
  settings: ModelSettings = packaged;
  says: Partial<CommandResult> | null = null;
  pythonMade = false;
  readonly uses = new ListedUses();
  /** What the hub's main is at, for `resolve`. */
  newest = "";
  readonly executor = new ScriptedExecutor(
    ({ argv }) => this.says ?? { stdout: argv.includes("resolve") ? this.#resolve() : this.#fetch() },
  );

  tools(source: ModelSource = { source: "package", package: "acme-tiny" }): ModelTools {
    const config = projectConfig(this.directory, { tiny: source });
    const lock = new ModelLock(config.projectFile);
    const models = new FileModelStore(this.store, lock, new HashCache(this.directory));
    return {
      config,
      lock,
      models,
      uses: this.uses,
      python: {
        find: () => Promise.resolve("/venv/bin/python"),
        ensure: () => Promise.resolve({ python: "/venv/bin/python", made: this.pythonMade }),
      },
      executor: this.executor,
      clock: new SteppingClock(),
      progress: this.progress,
      signal: new AbortController().signal,
      matching: (name, from) => models.matching(name, from, new Set([wheelHash])),
      packageLock: () => Promise.resolve("/locks/tiny.txt"),
      paths: { store: this.store, wheel: "/cache/x.whl" },
    };
  }

  #resolve(): string {
    return JSON.stringify({ event: "result", id: this.settings.id, revision: this.newest });
  }

  #fetch(): string {
    const { id, revision, manifest, files } = storeModel(this.store, this.settings);
    const entries = Object.fromEntries(Object.entries(files).map(([file, sha256]) => [file, { sha256, bytes: 1 }]));
    const probes = { origin: this.settings.origin ?? "reference" };
    const { dtype = "float32" } = this.settings;
    return [
      JSON.stringify({ event: "progress", label: "download", done: 10, total: 40, unit: "bytes" }),
      "not JSON",
      JSON.stringify({ event: "result", id, revision, manifest, files: entries, probes, dtype }),
    ].join("\n");
  }
}

const all = { names: [], update: false };

describe("models fetch", () => {
  it("runs the fetcher with the source, shows its progress, and pins what it got", async () => {
    const project = new Project();
    const tools = project.tools();
    expect(await modelsFetch(tools, all)).toMatchObject({
      models: [{ name: "tiny", id: "acme/tiny", outcome: "fetched" }],
      python: { made: false },
    });
    expect(project.executor.commands).toEqual([
      {
        argv: [
          "/venv/bin/python",
          "-m",
          "gpuctl_serving.models",
          "fetch",
          "--store",
          project.store,
          "--spec",
          '{"source":"package","package":"acme-tiny","lock":"/locks/tiny.txt"}',
        ],
        env: { PYTHONPATH: "/cache/x.whl" },
      },
    ]);
    expect(project.progress.events).toContainEqual({
      kind: "amount",
      label: "tiny: download",
      done: 10,
      total: 40,
      unit: "bytes",
    });
    expect(await tools.lock.read()).toMatchObject({ tiny: { id: "acme/tiny", revision: packaged.revision } });
  });

  it("downloads nothing when the pinned model is there and whole", async () => {
    const project = new Project();
    await modelsFetch(project.tools(), all);
    expect(await modelsFetch(project.tools(), all)).toMatchObject({ models: [{ outcome: "present" }] });
    expect(project.executor.commands).toHaveLength(1);
  });

  it("downloads nothing when another project fetched the same bytes, and pins them here", async () => {
    const project = new Project();
    await modelsFetch(project.tools(), all);
    rmSync(join(project.directory, "gpuctl.lock.json"));
    expect(await modelsFetch(project.tools(), all)).toMatchObject({ models: [{ outcome: "present" }] });
    expect(project.executor.commands).toHaveLength(1);
    expect(await project.tools().lock.read()).toHaveProperty("tiny");
  });

  it("fetches again, and says repaired, when a file was damaged", async () => {
    const project = new Project();
    const [model] = (await modelsFetch(project.tools(), all)).models;
    writeFileSync(join(model?.directory ?? "", "model.onnx"), "damaged");
    expect(await modelsFetch(project.tools(), all)).toMatchObject({ models: [{ outcome: "repaired" }] });
    expect(await modelsVerify(project.tools(), [])).toMatchObject([{ name: "tiny", files: 3 }]);
  });

  it("refuses to follow gpuctl.yaml to another revision unless told to, and downloads nothing before", async () => {
    const project = new Project();
    await modelsFetch(project.tools(), all);
    const other: ModelSource = { source: "package", package: "acme-tiny==2.0" };
    project.settings = {
      revision: "2.0-0123456789ab",
      source: { source: "package", package: "acme-tiny==2.0" },
      files: { "model.onnx": "two" },
    };
    await expect(modelsFetch(project.tools(other), all)).rejects.toMatchObject({
      constructor: PreflightRefused,
      nextSteps: ["gpuctl models fetch --update"],
    });
    expect(project.executor.commands).toHaveLength(1);
    await modelsFetch(project.tools(other), { names: ["tiny"], update: true });
    expect(await project.tools().lock.read()).toMatchObject({ tiny: { revision: "2.0-0123456789ab" } });
  });

  it("refuses a source that serves other bytes under the pinned revision, and leaves the lock as it was", async () => {
    const project = new Project();
    await modelsFetch(project.tools(), all);
    const before = await project.tools().lock.read();
    rmSync(project.store, { recursive: true });
    project.settings = { ...packaged, files: { "model.onnx": "changed upstream" } };
    await expect(modelsFetch(project.tools(), all)).rejects.toThrow(/not the one that the lock pins/);
    expect(await project.tools().lock.read()).toEqual(before);
  });

  it("does not rewrite a committed lock because this machine records its own answers", async () => {
    const project = new Project();
    project.settings = { ...packaged, origin: "self-recorded" };
    await modelsFetch(project.tools(), all);
    const before = await project.tools().lock.read();
    rmSync(project.store, { recursive: true });
    project.settings = { ...project.settings, probe: 0.500001 };
    await modelsFetch(project.tools(), all);
    expect(await project.tools().lock.read()).toEqual(before);
  });

  it("passes on what the fetcher says is wrong, with its next step", async () => {
    const project = new Project();
    project.says = {
      code: 1,
      stdout: '{"event":"error","message":"the download has the wrong hash","because":"index","next":"try again"}',
    };
    await expect(modelsFetch(project.tools(), all)).rejects.toMatchObject({
      constructor: Failed,
      because: "the download has the wrong hash: index",
      nextSteps: ["try again"],
    });
    expect(await project.tools().lock.read()).toEqual({});
  });

  it("says what it can about a fetcher that died without a word", async () => {
    const project = new Project();
    project.says = { code: null, signal: "SIGKILL" };
    await expect(modelsFetch(project.tools(), all)).rejects.toMatchObject({
      because: expect.stringContaining("SIGKILL") as unknown,
    });
  });

  it("counts paths from gpuctl.yaml", async () => {
    const project = new Project();
    project.settings = { source: { source: "path" } };
    await modelsFetch(project.tools({ source: "path", path: "weights/tiny" }), all);
    expect(project.executor.commands[0]?.argv.at(-1)).toContain(`"path":"${project.directory}/weights/tiny"`);
  });

  it("knows only the names of gpuctl.yaml", async () => {
    await expect(modelsFetch(new Project().tools(), { names: ["huge"], update: false })).rejects.toBeInstanceOf(UsageError);
  });
});

describe("models list and verify", () => {
  it("show this project's models, others in the store, and names that are not there", async () => {
    const project = new Project();
    expect(await modelsList(project.tools())).toMatchObject({
      models: [],
      missing: [{ name: "tiny", nextSteps: ["gpuctl models fetch"] }],
    });
    await modelsFetch(project.tools(), all);
    storeModel(project.store, { id: "acme/other", revision: "3" });
    expect((await modelsList(project.tools())).models.map(({ name, id }) => [name, id])).toEqual([
      ["tiny", "acme/tiny"],
      [null, "acme/other"],
    ]);
  });

  it("name the damaged file, both hashes and the command that repairs it", async () => {
    const project = new Project();
    const [model] = (await modelsFetch(project.tools(), all)).models;
    const file = join(model?.directory ?? "", "model.onnx");
    writeFileSync(file, "damaged");
    const failure = modelsVerify(project.tools(), ["tiny"]);
    await expect(failure).rejects.toMatchObject({
      because: expect.stringMatching(/model\.onnx: its sha256 is [0-9a-f]{64}, and the manifest says [0-9a-f]{64}/) as unknown,
      nextSteps: ["gpuctl models fetch tiny, which fetches and replaces what is damaged"],
    });
    await expect(modelsVerify(project.tools(), ["huge"])).rejects.toBeInstanceOf(UsageError);
  });
});

describe("models fetch of a preset that pins no commit", () => {
  const first = "a".repeat(40);
  const later = "b".repeat(40);
  const e5: ModelSource = { source: "hub", id: "acme/e5", prompts: { query: "query: ", passage: "passage: " } };
  const at = (commit: string): ModelSettings => ({
    id: "acme/e5",
    revision: `${commit}-123456`,
    source: { source: "hub", id: "acme/e5", revision: commit },
    prompts: { passage: "passage: ", query: "query: " },
  });
  const specs = (project: Project): unknown[] =>
    project.executor.commands.map(({ argv }) => JSON.parse(argv.at(-1) ?? "") as unknown);

  it("takes what the hub has, and from then on what the lock pins", async () => {
    const project = new Project();
    project.settings = at(first);
    await modelsFetch(project.tools(e5), all);
    expect(await project.tools(e5).lock.read()).toMatchObject({ tiny: { revision: `${first}-123456` } });
    rmSync(project.store, { recursive: true });
    await modelsFetch(project.tools(e5), all);
    expect(specs(project)).toEqual([e5, { ...e5, revision: first }]);
  });

  it("--update asks the hub, and fetches only when it has moved on", async () => {
    const project = new Project();
    project.settings = at(first);
    project.newest = first;
    await modelsFetch(project.tools(e5), all);
    const update = { names: [], update: true };
    expect(await modelsFetch(project.tools(e5), update)).toMatchObject({ models: [{ outcome: "present" }] });
    expect(project.executor.commands.map(({ argv }) => argv[3])).toEqual(["fetch", "resolve"]);
    project.newest = later;
    project.settings = at(later);
    expect(await modelsFetch(project.tools(e5), update)).toMatchObject({ models: [{ revision: `${later}-123456` }] });
    expect(specs(project).at(-1)).toEqual(e5);
  });

  it("refuses other prompts or another dtype until the lock may follow", async () => {
    const project = new Project();
    project.settings = at(first);
    await modelsFetch(project.tools(e5), all);
    for (const changed of [{ prompts: { query: "Q: " } }, { dtype: "int8" as const }, { normalize: false }]) {
      const refused = modelsFetch(project.tools({ ...e5, ...changed }), all);
      await expect(refused).rejects.toThrow("was changed in gpuctl.yaml");
    }
  });

  it("claims the model for the project's lock, so that no other project removes it", async () => {
    const project = new Project();
    await modelsFetch(project.tools(), all);
    const lock = join(project.directory, "gpuctl.lock.json");
    expect(project.uses.claimed).toEqual([{ directory: expect.stringContaining("acme--tiny") as string, lock }]);
  });
});

describe("models fetch of a quantised model on another machine", () => {
  const source: ModelSource = { source: "package", package: "acme-tiny", dtype: "int8" };
  const parity = { kind: "embedder", texts: 228, overlap: 0.976, meanCosine: 0.99934, leastCosine: 0.99757, alone: 1 } as const;
  const made = (graph: string, tokenizer = "{}"): ModelSettings => ({
    ...packaged,
    ...{ dtype: "int8", parity, origin: "self-recorded" },
    files: { "model.onnx": graph, "tokenizer.json": tokenizer, "config.json": "{}" },
  });

  it("keeps the committed lock though its own calibration gave other bytes, and the deploy finds the model", async () => {
    const project = new Project();
    project.settings = made("here");
    await modelsFetch(project.tools(source), all);
    const committed = await project.tools(source).lock.read();
    rmSync(project.store, { recursive: true });
    project.settings = made("there");
    expect(await modelsFetch(project.tools(source), all)).toMatchObject({ models: [{ outcome: "fetched" }] });
    expect(await project.tools(source).lock.read()).toEqual(committed);
    expect(await modelsVerify(project.tools(source), [])).toHaveLength(1);
  });

  it("refuses another tokenizer all the same", async () => {
    const project = new Project();
    project.settings = made("here");
    await modelsFetch(project.tools(source), all);
    rmSync(project.store, { recursive: true });
    project.settings = made("there", "other");
    await expect(modelsFetch(project.tools(source), all)).rejects.toThrow("is not the one that the lock pins");
  });
});

describe("models verify of a quantised model", () => {
  it("repeats what was measured against its original", async () => {
    const project = new Project();
    const parity = { kind: "embedder", texts: 228, overlap: 0.976, meanCosine: 0.99934, leastCosine: 0.99757, alone: 1 } as const;
    project.settings = { ...packaged, dtype: "int8", parity };
    const source: ModelSource = { source: "package", package: "acme-tiny", dtype: "int8" };
    await modelsFetch(project.tools(source), all);
    expect(await modelsVerify(project.tools(source), [])).toMatchObject([{ name: "tiny", licence: "MIT", parity }]);
    expect(await modelsList(project.tools(source))).toMatchObject({ models: [{ dtype: "int8" }] });
  });
});
