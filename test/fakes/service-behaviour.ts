import type { Probes, StoredModel } from "../../cli/src/ports.js";
import type { ServiceSpec } from "../../cli/src/domain/release.js";
import type { FakeInstance } from "./machine.js";

/** What can be wrong with a service; written in its settings as `FAULT`. */
export const faults = [
  "exits-at-load",
  "hangs-at-load",
  "says-failed",
  "hangs-at-warm-up",
  "wrong-device",
  "bad-canary",
  "nan",
  "wrong-dimension",
  "wrong-vectors",
  "wrong-tokens",
  "http-500",
  "restarts-when-open",
  "dies-when-open",
  "wrong-when-open",
  "errors-when-open",
  "leaves-device-when-open",
] as const;
/** Slowness is a fault only for those who configured a benchmark gate. */
export type Fault = (typeof faults)[number] | "slow-when-open";

/** The fault an instance has now: those `…-when-open` begin half a second after it got traffic. */
export function faultOf(instance: FakeInstance, now: number): Fault | null {
  const fault = (instance.is.spec.env["FAULT"] ?? null) as Fault | null;
  if (fault?.endsWith("-when-open") !== true) return fault;
  return instance.openedAt !== null && now - instance.openedAt >= 500 ? fault : null;
}

/** A deterministic stand-in for an embedding: the direction depends on text and model. */
export function vectorOf(text: string, model: string, dimension: number): readonly number[] {
  let state = 7;
  for (const character of `${model} ${text}`) state = (state * 31 + (character.codePointAt(0) ?? 0)) % 65_521;
  const raw = Array.from({ length: dimension }, (_, i) => Math.sin(state * (i + 1)) + 0.01);
  const norm = Math.hypot(...raw);
  return raw.map((value) => value / norm);
}

export const tokensOf = (text: string): number => text.split(" ").length + 2;

const texts = ["a rollback restores everything", "the lease expires", "one writer", "vectors are compared by their direction"];

/** A model in the store with probes that a correct service answers. */
export function fakeModel(name: string, dimension: number | null): StoredModel {
  const id = `models/${name}`;
  const probes: Probes =
    dimension === null
      ? {
          kind: "cross-encoder",
          origin: "reference",
          items: texts.slice(1).map((document) => ({ query: texts[0] ?? "", document, logit: logitOf(document) })),
        }
      : {
          kind: "embedder",
          origin: "reference",
          items: texts.map((text) => ({ text, tokens: tokensOf(text), vector: vectorOf(text, name, dimension) })),
        };
  return {
    ref: {
      name,
      id,
      revision: "1",
      manifest: `manifest-${name}`,
      files: { "model.onnx": `hash-${name}` },
      generation: dimension === null ? null : `${id}@1|mean|normalized||${dimension}`,
    },
    kind: dimension === null ? "cross-encoder" : "embedder",
    dimension,
    directory: `/models/${name}`,
    bytes: 10,
    licence: "Apache-2.0",
    probes,
  };
}

export const logitOf = (document: string): number => (document.length % 7) - 3;

/** Vectors of a request as the service would answer it, its fault included. */
export function embed(spec: ServiceSpec, inputs: readonly string[], fault: Fault | null): unknown {
  const model = spec.model;
  const dimension = Number(model?.generation?.split("|").at(-1));
  return inputs.map((text) => {
    const vector = [...vectorOf(text, model?.name ?? "", dimension)];
    if (fault === "nan") vector[0] = Number.NaN;
    if (fault === "wrong-dimension") vector.push(0);
    if (fault === "wrong-vectors" || fault === "wrong-when-open") vector.reverse();
    return vector;
  });
}

/** Scores of a request, best first, its fault included. */
export function rerank(spec: ServiceSpec, query: string, documents: readonly string[], fault: Fault | null): unknown {
  const crossEncoder = spec.model?.generation === null;
  const name = spec.model?.name ?? "";
  const dimension = Number(spec.model?.generation?.split("|").at(-1));
  const score = (document: string): number => {
    if (fault === "nan") return Number.NaN;
    if (fault === "wrong-vectors" || fault === "wrong-when-open") return document.length;
    if (crossEncoder) return logitOf(document);
    const other = vectorOf(document, name, dimension);
    return vectorOf(query, name, dimension).reduce((sum, value, i) => sum + value * (other[i] ?? 0), 0);
  };
  const scored = documents.map((document, index) => ({ index, score: score(document) }));
  return scored.sort((a, b) => b.score - a.score);
}
