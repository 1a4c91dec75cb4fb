import { dirname, isAbsolute, join } from "node:path";
import type { ModelSource } from "../domain/config/resolved.js";
import { commitOf, isGraph } from "../domain/model-files.js";
import { PreflightRefused, UsageError } from "../domain/errors.js";
import type { LockedModel, ModelTools, StoredModel } from "../ports.js";
import { type FetcherResult, newestCommit, runFetch } from "./models-run.js";

export interface FetchRequest {
  /** Names in gpuctl.yaml's `models`; none means all. */
  names: readonly string[];
  /** Lets the lock follow gpuctl.yaml to another revision. */
  update: boolean;
}

export interface FetchedModel {
  name: string;
  id: string;
  revision: string;
  directory: string;
  bytes: number;
  licence: string;
  /** `present`: it was there and whole. `repaired`: a file was damaged. */
  outcome: "fetched" | "present" | "repaired";
}

export interface FetchResult {
  python: { path: string; made: boolean };
  models: readonly FetchedModel[];
  lock: string;
}

/**
 * The one command that downloads: makes the Python environment of this gpuctl when it is missing, brings every model of
 * gpuctl.yaml into the store, and pins them in the lock.
 */
export async function modelsFetch(tools: ModelTools, request: FetchRequest): Promise<FetchResult> {
  const wanted = chosen(tools, request.names);
  const { python, made } = await tools.python.ensure();
  const models: FetchedModel[] = [];
  for (const [name, source] of wanted) models.push(await fetchOne(tools, python, name, source, request.update));
  return { python: { path: python, made }, models, lock: tools.lock.file };
}

function chosen({ config }: ModelTools, names: readonly string[]): readonly (readonly [string, ModelSource])[] {
  const unknown = names.find((name) => !(name in config.models));
  if (unknown !== undefined) {
    throw new UsageError(`gpuctl.yaml has no model named ${unknown}`, {
      because: `its models are ${Object.keys(config.models).join(", ")}`,
      nextSteps: ["gpuctl models list"],
    });
  }
  return Object.entries(config.models).filter(([name]) => names.length === 0 || names.includes(name));
}

async function fetchOne(
  tools: ModelTools,
  python: string,
  name: string,
  source: ModelSource,
  update: boolean,
): Promise<FetchedModel> {
  const locked = (await tools.lock.read())[name];
  const state = locked === undefined ? "absent" : await presentState(tools, name, update);
  const spec = await specOf(tools, source, update ? undefined : locked);
  if (typeof state === "object" && !(update && (await movedOn(tools, python, name, source, state)))) {
    await tools.uses.claim(state.directory, tools.lock.file);
    return describe(state, name, "present");
  }
  const same = state === "absent" ? await alreadyStored(tools, name, source) : null;
  if (same !== null) {
    await pin(
      tools,
      name,
      { ...same.ref, selfRecorded: same.probes.origin === "self-recorded", int8: same.dtype === "int8" },
      update,
    );
    await tools.uses.claim(same.directory, tools.lock.file);
    return describe(same, name, "present");
  }
  const fetched = await runFetch(tools, python, name, spec);
  await pin(tools, name, fetched, update);
  const stored = await tools.models.resolve(name, tools.config);
  await tools.uses.claim(stored.directory, tools.lock.file);
  return describe(stored, name, state === "damaged" ? "repaired" : "fetched");
}

/** Whether the hub has a newer commit of a model that gpuctl.yaml pins to none. */
async function movedOn(
  tools: ModelTools,
  python: string,
  name: string,
  source: ModelSource,
  { ref }: StoredModel,
): Promise<boolean> {
  if (source.source !== "hub" || source.revision !== undefined) return false;
  return (await newestCommit(tools, python, name, await specOf(tools, source, undefined))) !== commitOf(ref.revision);
}

/** Another project may have fetched the very same thing: then only the lock is missing. */
async function alreadyStored(tools: ModelTools, name: string, source: ModelSource): Promise<StoredModel | null> {
  const model = await tools.matching(name, source);
  if (model === null) return null;
  return (await tools.models.verify(model, tools.signal)).length === 0 ? model : null;
}

/** Writes the lock, unless it pins something else and was not to be updated. */
async function pin(
  tools: ModelTools,
  name: string,
  { id, revision, manifest, files, selfRecorded, int8 }: FetcherResult,
  update: boolean,
): Promise<void> {
  const found: LockedModel = { id, revision, manifest, files };
  const locked = await tools.lock.read();
  const before = locked[name];
  if (!update) refuseOther(name, before, found, int8);
  // A committed lock does not change because another machine recorded its own answers to the probes, or calibrated on its own.
  if (before !== undefined && selfRecorded && sameFiles(before, found, int8)) return;
  await tools.lock.write({ ...locked, [name]: found });
}

/** What the store holds under the lock: the whole model, a damaged one, or none that fits. */
async function presentState(
  { models, config, signal }: ModelTools,
  name: string,
  update: boolean,
): Promise<StoredModel | "damaged" | "absent"> {
  try {
    const model = await models.resolve(name, config);
    return (await models.verify(model, signal)).length === 0 ? model : "damaged";
  } catch (error) {
    if (!(error instanceof PreflightRefused)) throw error;
    // Downloading what the lock then refuses would waste everybody's time.
    if (error.data?.["changed"] === true && !update) throw error;
    return "absent";
  }
}

/** The lock wins over whatever a source serves today, unless the user said otherwise. */
function refuseOther(name: string, locked: LockedModel | undefined, fetched: LockedModel, int8: boolean): void {
  if (locked === undefined || sameFiles(locked, fetched, int8)) return;
  const because =
    locked.revision === fetched.revision
      ? `revision ${fetched.revision} now has other files than the lock pins`
      : `the lock pins ${locked.id}@${locked.revision}, and gpuctl.yaml's source gives ${fetched.id}@${fetched.revision}`;
  throw new PreflightRefused(`the model ${name} is not the one that the lock pins`, {
    because,
    nextSteps: ["gpuctl models fetch --update, to pin what was fetched", "or put the old source back into gpuctl.yaml"],
    data: { model: name, locked: locked.revision, fetched: fetched.revision },
  });
}

/** An int8 graph is made on each machine, of the weights that the revision names: its own hash says nothing. */
const sameFiles = (a: LockedModel, b: LockedModel, int8: boolean): boolean =>
  a.id === b.id &&
  a.revision === b.revision &&
  Object.keys(a.files).length === Object.keys(b.files).length &&
  Object.entries(a.files).every(([file, hash]) => b.files[file] === hash || (int8 && isGraph(file)));

/** The source as the fetcher reads it; paths count from gpuctl.yaml, and a commit that the file leaves open is the lock's. */
async function specOf(tools: ModelTools, source: ModelSource, locked: LockedModel | undefined): Promise<Record<string, unknown>> {
  if (source.source === "hub") {
    const pinned = locked?.id === source.id ? { revision: commitOf(locked.revision) } : {};
    return { ...pinned, ...source };
  }
  if (source.source === "package") return { ...source, lock: await tools.packageLock(source.package) };
  const counted = isAbsolute(source.path) || source.path.startsWith("~");
  return { ...source, path: counted ? source.path : join(dirname(tools.config.projectFile), source.path) };
}

function describe({ ref, directory, bytes, licence }: StoredModel, name: string, outcome: FetchedModel["outcome"]): FetchedModel {
  return { name, id: ref.id, revision: ref.revision, directory, bytes, licence, outcome };
}
