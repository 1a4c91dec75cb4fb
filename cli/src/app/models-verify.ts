import { Failed, UsageError } from "../domain/errors.js";
import type { ModelTools, Parity } from "../ports.js";

export interface VerifiedModel {
  name: string;
  id: string;
  revision: string;
  files: number;
  bytes: number;
  licence: string;
  /** Of a quantised model: what was measured when it was fetched, against its original. */
  parity: Parity | null;
}

/** Hashes every file of the models that gpuctl.yaml names, and throws Failed when one is not what was fetched. */
export async function modelsVerify(tools: ModelTools, names: readonly string[]): Promise<readonly VerifiedModel[]> {
  const { config, models, progress, signal } = tools;
  const unknown = names.find((name) => !(name in config.models));
  if (unknown !== undefined)
    throw new UsageError(`gpuctl.yaml has no model named ${unknown}`, { nextSteps: ["gpuctl models list"] });
  const wanted = Object.keys(config.models).filter((name) => names.length === 0 || names.includes(name));
  const verified: VerifiedModel[] = [];
  const problems: { model: string; file: string; because: string }[] = [];
  for (const [done, name] of wanted.entries()) {
    progress.emit({ kind: "amount", label: "verify", done, total: wanted.length, unit: "models" });
    const model = await models.resolve(name, config);
    problems.push(...(await models.verify(model, signal)).map((problem) => ({ model: name, ...problem })));
    const { ref, bytes, licence, parity = null } = model;
    verified.push({ name, id: ref.id, revision: ref.revision, files: Object.keys(ref.files).length, bytes, licence, parity });
  }
  progress.emit({ kind: "amount", label: "verify", done: wanted.length, total: wanted.length, unit: "models" });
  if (problems.length > 0) throw damaged(problems);
  return verified;
}

function damaged(problems: readonly { model: string; file: string; because: string }[]): Failed {
  const names = [...new Set(problems.map((problem) => problem.model))];
  const what =
    problems.length === 1
      ? "a model file is not what was fetched"
      : `${problems.length.toString()} model files are not what was fetched`;
  return new Failed(what, {
    because: problems.map(({ file, because }) => `${file}: ${because}`).join("\n"),
    nextSteps: [`gpuctl models fetch ${names.join(" ")}, which fetches and replaces what is damaged`],
    data: { problems: [...problems] },
  });
}
