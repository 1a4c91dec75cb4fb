import { Failed, PreflightRefused } from "../../../domain/errors.js";
import type { Sha256 } from "../../../domain/names.js";
import { modelsOf, type ModelRef, type ServiceSpec } from "../../../domain/release.js";
import type { ModelStore, StoredModel } from "../../../ports.js";
import type { PackagedCode } from "../../code/packaged-code.js";
import { placeWheel } from "../../code/place-wheel.js";
import { hashFile } from "../../models/file-hash.js";
import { currentUid } from "../../state/directories.js";
import { ensurePrivateDirectory } from "../../state/state-directory.js";
import { errorCode, storageFailure } from "../../state/storage-failure.js";
import type { PythonEnvironments } from "./python-environment.js";
import type { StateLayout } from "./state-layout.js";

/** Models with the check that believes unchanged files. */
export interface StagedModels extends Pick<ModelStore, "find" | "verify"> {
  verifyQuickly: ModelStore["verify"];
}

export interface StagingParts {
  layout: StateLayout;
  environments: PythonEnvironments;
  models: StagedModels;
  code: { current(): Promise<PackagedCode> };
}

/** Puts a spec's wheel into this environment and finds its Python environment. Says what it found. */
export async function stageCode(parts: StagingParts, spec: ServiceSpec): Promise<string> {
  const python = await pythonFor(parts, spec.python.lock);
  await stageWheel(parts, spec.code.wheel);
  await parts.environments.claim(python, parts.layout.state);
  return `${spec.code.file} (${spec.code.wheel.slice(0, 12)}), Python lock ${spec.python.lock.slice(0, 12)}`;
}

/** Hashes every file of a spec's models. Says what it found. */
export async function stageModels(parts: StagingParts, spec: ServiceSpec, signal: AbortSignal): Promise<string> {
  const lines: string[] = [];
  for (const ref of modelsOf(spec)) lines.push(await stageModel(parts, ref, signal));
  return lines.join("; ") || "no model";
}

async function stageModel(parts: StagingParts, ref: ModelRef, signal: AbortSignal): Promise<string> {
  const model = await modelFor(parts, ref);
  const [problem] = await parts.models.verify(model, signal);
  if (problem !== undefined) throw corrupted(ref, problem);
  const files = Object.keys(ref.files).length;
  return `${ref.id}@${ref.revision}: ${files.toString()} files, ${(model.bytes / 1e6).toFixed(0)} MB, hashes verified`;
}

export function corrupted(ref: ModelRef, problem: { file: string; because: string }): Failed {
  return new Failed(`a file of the model ${ref.name} is not what was fetched: ${problem.file}`, {
    because: problem.because,
    nextSteps: ["gpuctl models fetch, which repairs it", "gpuctl models verify"],
    data: { file: problem.file, model: ref.id },
  });
}

/** The environment of a lock, or why there is none. Only `models fetch` may make one: it is the command that downloads. */
export async function pythonFor({ environments }: Pick<StagingParts, "environments">, lock: Sha256): Promise<string> {
  const found = await environments.find(lock);
  if (found !== null) return found;
  throw new PreflightRefused("the Python environment of this release is not on this machine", {
    because: `none is complete for the lock ${lock.slice(0, 16)}, and a deploy never downloads`,
    nextSteps: ["gpuctl models fetch, which makes the environment of this gpuctl"],
    data: { lock },
  });
}

export async function modelFor({ models }: Pick<StagingParts, "models">, ref: ModelRef): Promise<StoredModel> {
  const found = await models.find(ref);
  if (found !== null) return found;
  throw new PreflightRefused(`the model ${ref.name} of this release is not in the model store`, {
    because: `${ref.id}@${ref.revision} is missing, or its manifest is another one`,
    nextSteps: ["gpuctl models fetch"],
    data: { model: ref.id, revision: ref.revision },
  });
}

/** Copies a wheel by its hash unless it is there and whole. */
export async function stageWheel({ layout, code }: StagingParts, wheel: Sha256): Promise<string> {
  const target = layout.wheel(wheel);
  if ((await hashOf(target)) === wheel) return target;
  const current = await code.current();
  if (current.wheel !== wheel) {
    throw new Failed(`the code of this release is not on this machine: ${target}`, {
      because: `the wheel ${wheel.slice(0, 12)} is missing or damaged, and this gpuctl carries ${current.wheel.slice(0, 12)}`,
      nextSteps: [
        "gpuctl releases, for a release that can be started",
        "or install the gpuctl that made it, and deploy with that",
      ],
    });
  }
  try {
    await ensurePrivateDirectory(layout.state, currentUid());
    await ensurePrivateDirectory(layout.wheels, currentUid());
    await placeWheel(current, target);
  } catch (error) {
    throw storageFailure("could not stage the code", target, error);
  }
  return target;
}

async function hashOf(path: string): Promise<Sha256 | null> {
  return hashFile(path).catch((error: unknown) => {
    if (errorCode(error) === "ENOENT") return null;
    throw error;
  });
}

/** Whether a spec could be started without fetching anything. */
export async function isStaged(parts: StagingParts, spec: ServiceSpec): Promise<boolean> {
  if ((await parts.environments.find(spec.python.lock)) === null) return false;
  const here = (await hashOf(parts.layout.wheel(spec.code.wheel))) === spec.code.wheel;
  if (!here && (await parts.code.current()).wheel !== spec.code.wheel) return false;
  const models = await Promise.all(modelsOf(spec).map((ref) => parts.models.find(ref)));
  return !models.includes(null);
}

/** Whether every file of a spec is here and is what was staged. Model files that look unchanged are believed: status asks often. */
export async function isIntact(parts: StagingParts, spec: ServiceSpec): Promise<boolean> {
  if ((await parts.environments.find(spec.python.lock)) === null) return false;
  if ((await hashOf(parts.layout.wheel(spec.code.wheel))) !== spec.code.wheel) return false;
  for (const ref of modelsOf(spec)) {
    const found = await parts.models.find(ref);
    if (found === null || (await parts.models.verifyQuickly(found, new AbortController().signal)).length > 0) return false;
  }
  return true;
}
