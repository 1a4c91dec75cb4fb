import { GpuctlError } from "../domain/errors.js";
import type { ModelTools, StoredModel } from "../ports.js";

export interface ListedModel {
  /** Name in gpuctl.yaml; null for a stored model that this project does not name. */
  name: string | null;
  id: string;
  revision: string;
  kind: StoredModel["kind"];
  dimension: number | null;
  bytes: number;
  licence: string;
  dtype: "float32" | "int8";
  probes: "reference" | "self-recorded";
  directory: string;
}

export interface ModelList {
  models: readonly ListedModel[];
  /** Names of gpuctl.yaml that a deploy would refuse, and why. */
  missing: readonly { name: string; because: string; nextSteps: readonly string[] }[];
}

/** Models of this project first, in gpuctl.yaml's order, then whatever else is in the store. */
export async function modelsList({ config, models }: ModelTools): Promise<ModelList> {
  const own: ListedModel[] = [];
  const missing: { name: string; because: string; nextSteps: readonly string[] }[] = [];
  for (const name of Object.keys(config.models)) {
    try {
      own.push(listed(await models.resolve(name, config), name));
    } catch (error) {
      if (!(error instanceof GpuctlError)) throw error;
      missing.push({
        name,
        because: error.because === undefined ? error.message : `${error.message}: ${error.because}`,
        nextSteps: error.nextSteps,
      });
    }
  }
  const named = new Set(own.map((model) => model.directory));
  const others = (await models.list()).filter((model) => !named.has(model.directory)).map((model) => listed(model, null));
  return { models: [...own, ...others], missing };
}

function listed(model: StoredModel, name: string | null): ListedModel {
  const { kind, dimension, bytes, licence, directory } = model;
  return {
    name,
    id: model.ref.id,
    revision: model.ref.revision,
    kind,
    dimension,
    bytes,
    licence,
    dtype: model.dtype ?? "float32",
    probes: model.probes.origin,
    directory,
  };
}
