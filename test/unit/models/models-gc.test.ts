import { existsSync, mkdirSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { HashCache } from "../../../cli/src/adapters/models/file-hash.js";
import { FileModelStore } from "../../../cli/src/adapters/models/file-model-store.js";
import { ModelLock } from "../../../cli/src/adapters/models/model-lock.js";
import { DiskModelUses } from "../../../cli/src/adapters/models/model-users.js";
import { modelsGc } from "../../../cli/src/app/models-gc.js";
import { Failed } from "../../../cli/src/domain/errors.js";
import type { ModelTools } from "../../../cli/src/ports.js";
import { projectConfig } from "../../support/project-config.js";
import { lockText, storeModel } from "../../support/stored-model.js";
import { temporaryDirectories } from "../../support/temporary.js";

const temporary = temporaryDirectories();
const hour = 3600_000;

/** A store with models, projects with state and locks, and processes, on a disk of its own. */
class Machine {
  readonly directory = temporary();
  readonly store = join(this.directory, "models");
  readonly states = join(this.directory, "state");
  readonly proc = join(this.directory, "proc");
  readonly project = join(this.directory, "here");
  now = Date.now() + 2 * hour;

  constructor() {
    mkdirSync(this.project);
  }

  model(revision: string, id = "acme/tiny"): ReturnType<typeof storeModel> {
    return storeModel(this.store, { id, revision });
  }

  uses(): DiskModelUses {
    return new DiskModelUses({ store: this.store, states: this.states, proc: this.proc }, () => this.now);
  }

  tools(): ModelTools {
    const config = projectConfig(this.project);
    const lock = new ModelLock(config.projectFile);
    return {
      config,
      lock,
      models: new FileModelStore(this.store, lock, new HashCache(this.directory)),
      uses: this.uses(),
      clock: { now: () => new Date(this.now) },
      signal: new AbortController().signal,
    } as unknown as ModelTools;
  }

  write(path: string, content: unknown): string {
    const file = join(this.directory, path);
    mkdirSync(join(file, ".."), { recursive: true });
    writeFileSync(file, typeof content === "string" ? content : JSON.stringify(content));
    return file;
  }
}

const show = { confirm: false };
const really = { confirm: true };

describe("models gc", () => {
  it("shows what nothing names, and removes it only when told to", async () => {
    const machine = new Machine();
    const { directory } = machine.model("1.0-old");
    expect(await modelsGc(machine.tools(), show)).toMatchObject({ removed: false, unused: [{ revision: "1.0-old", directory }] });
    expect(existsSync(directory)).toBe(true);
    expect(await modelsGc(machine.tools(), really)).toMatchObject({ removed: true, unused: [{ directory }] });
    expect(existsSync(directory)).toBe(false);
    expect(readdirSync(join(machine.store, ".staging"))).toEqual([]);
  });

  it("keeps what was stored within the hour, which may be a fetch that has not pinned it yet, and counts it", async () => {
    const machine = new Machine();
    machine.now -= 2 * hour;
    const { directory } = machine.model("1.0-new");
    expect(await modelsGc(machine.tools(), really)).toMatchObject({ unused: [], kept: [], young: 1 });
    expect(existsSync(directory)).toBe(true);
  });

  it("keeps what the lock of this project, and of any project that fetched it, pins", async () => {
    const machine = new Machine();
    const mine = machine.model("1.0-mine");
    const theirs = machine.model("1.0-theirs");
    writeFileSync(join(machine.project, "gpuctl.lock.json"), lockText({ tiny: mine }));
    const other = machine.write("there/gpuctl.lock.json", lockText({ tiny: theirs }));
    await machine.uses().claim(theirs.directory, other);
    const kept = await modelsGc(machine.tools(), really);
    expect(kept.unused).toEqual([]);
    expect(kept.kept.map(({ revision }) => revision).sort()).toEqual(["1.0-mine", "1.0-theirs"]);
    writeFileSync(other, lockText({}));
    expect((await modelsGc(machine.tools(), show)).unused).toMatchObject([{ revision: "1.0-theirs" }]);
    rmSync(other);
    expect((await modelsGc(machine.tools(), show)).unused).toMatchObject([{ revision: "1.0-theirs" }]);
  });

  it("keeps what a kept release names, also as the fallback of a reranker", async () => {
    const machine = new Machine();
    const main = machine.model("1.0-main");
    const small = machine.model("1.0-small");
    machine.write("state/shop-12345678/live/releases/r7-0a1b2c3d.json", {
      services: { reranker: { spec: { model: main, fallback: { model: small, maxCandidates: 20 } } } },
    });
    expect(await modelsGc(machine.tools(), really)).toMatchObject({
      unused: [],
      kept: [{ by: ["release r7-0a1b2c3d of shop-12345678/live"] }, { revision: "1.0-small" }],
    });
  });

  it("never removes what an instance or any process was started with", async () => {
    const machine = new Machine();
    const kept = machine.model("1.0-kept");
    const byHand = machine.model("1.0-by-hand");
    machine.write("state/shop-12345678/live/instances/embedder-r1-a.json", { env: { GPUCTL_MODEL_DIR: kept.directory } });
    machine.write("proc/4711/environ", `PATH=/bin\0GPUCTL_FALLBACK_MODEL_DIR=${byHand.directory}\0HOME=/\0`);
    const { unused, kept: used } = await modelsGc(machine.tools(), really);
    expect(unused).toEqual([]);
    expect(used.flatMap(({ by }) => by).sort()).toEqual(["instance embedder-r1-a", "process 4711, which runs"]);
  });

  it("keeps a model that was fetched a moment ago: its lock may not be written yet", async () => {
    const machine = new Machine();
    machine.model("1.0-new");
    machine.now = Date.now();
    expect((await modelsGc(machine.tools(), really)).unused).toEqual([]);
  });

  it("removes nothing when a release cannot be read, for it might name anything", async () => {
    const machine = new Machine();
    const { directory } = machine.model("1.0-old");
    machine.write("state/shop-12345678/live/releases/r7-0a1b2c3d.json", '{"services": {');
    await expect(modelsGc(machine.tools(), really)).rejects.toThrow(Failed);
    expect(existsSync(directory)).toBe(true);
  });

  it("gives up downloads that nobody continued for a day, and no younger ones", async () => {
    const machine = new Machine();
    const part = machine.write("models/.downloads/acme--big/0123/model.safetensors.part", "x".repeat(1000));
    expect((await modelsGc(machine.tools(), show)).unused).toEqual([]);
    const old = (machine.now - 25 * hour) / 1000;
    utimesSync(part, old, old);
    expect((await modelsGc(machine.tools(), really)).unused).toMatchObject([{ id: null, bytes: 1000 }]);
    expect(existsSync(part)).toBe(false);
  });

  it("removes nothing outside the store", async () => {
    const machine = new Machine();
    await expect(machine.uses().remove(machine.project)).rejects.toThrow("not below");
  });
});
