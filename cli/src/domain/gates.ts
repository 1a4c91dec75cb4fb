import type { Device, ProofLevel, ServiceName } from "./names.js";
import { proofLevels } from "./names.js";
import type { GateResult, ServiceSpec } from "./release.js";

/** What a gate concluded: one sentence with the figures that decided it. */
export interface Verdict {
  passed: boolean;
  detail: string;
  figures?: Readonly<Record<string, number | string | boolean>>;
}

const passed = (detail: string, figures?: Verdict["figures"]): Verdict => ({
  passed: true,
  detail,
  ...(figures ? { figures } : {}),
});
const failed = (detail: string, figures?: Verdict["figures"]): Verdict => ({
  passed: false,
  detail,
  ...(figures ? { figures } : {}),
});

/** A verdict as the line of a release record. */
export function gateResult(service: ServiceName, gate: GateResult["gate"], verdict: Verdict): GateResult {
  const { detail, figures } = verdict;
  return { service, gate, outcome: verdict.passed ? "passed" : "failed", detail, ...(figures ? { figures } : {}) };
}

/** Smallest cosine to a probe's reference that still counts as the same answer. */
export const smallestCosine = 0.999;

/** Judges an embedder's answers to the model's probe texts: count, dimension, finite numbers, direction, tokens. */
export function judgeEmbeddings(
  probes: readonly { tokens: number; vector: readonly number[] }[],
  answer: unknown,
  promptTokens: number | null,
): Verdict {
  if (!Array.isArray(answer) || answer.length !== probes.length)
    return failed(`${probes.length} texts were sent and ${Array.isArray(answer) ? answer.length : "no"} vectors came back`);
  let lowest = 1;
  for (const [i, probe] of probes.entries()) {
    const vector: unknown = answer[i];
    if (!Array.isArray(vector) || vector.length !== probe.vector.length)
      return failed(
        `the answer has ${Array.isArray(vector) ? vector.length : "no"} dimensions and the model ${probe.vector.length}`,
      );
    if (!vector.every((value) => typeof value === "number" && Number.isFinite(value)))
      return failed(`the answer to probe ${i + 1} holds a value that is no finite number (NaN or infinite)`);
    lowest = Math.min(lowest, cosine(vector as number[], probe.vector));
  }
  const figures = { probes: probes.length, lowestCosine: round(lowest, 7) };
  if (!(lowest >= smallestCosine))
    return failed(`the lowest cosine to the reference is ${lowest.toFixed(4)}, below ${smallestCosine}`, figures);
  const tokens = probes.reduce((sum, probe) => sum + probe.tokens, 0);
  if (promptTokens !== null && promptTokens !== tokens)
    return failed(`the service counts ${promptTokens} tokens in the probe texts and the reference ${tokens}`, figures);
  return passed(`${probes.length} probes, lowest cosine ${lowest.toFixed(6)}`, figures);
}

/** One document of a rerank answer. */
export interface RankedScore {
  index: number;
  score: number;
}

/** Reads a rerank answer in TEI's form: `[{index, score}]`, best first. Null when it is anything else. */
export function readRanking(answer: unknown, documents: number): readonly RankedScore[] | null {
  if (!Array.isArray(answer) || answer.length !== documents) return null;
  const seen = new Set<number>();
  const ranking: RankedScore[] = [];
  for (const item of answer as readonly unknown[]) {
    const { index, score } = (item ?? {}) as { index?: unknown; score?: unknown };
    if (typeof index !== "number" || !Number.isInteger(index) || index < 0 || index >= documents || seen.has(index)) return null;
    seen.add(index);
    ranking.push({ index, score: typeof score === "number" ? score : Number.NaN });
  }
  return ranking;
}

/** Judges scores against those a correct model gives, within a tolerance, and that they come best first. */
export function judgeScores(expected: readonly number[], answer: unknown, tolerance: number): Verdict {
  const ranking = readRanking(answer, expected.length);
  if (ranking === null) return failed(`${expected.length} documents were sent and the answer is not one score for each of them`);
  if (!ranking.every(({ score }) => Number.isFinite(score))) return failed("a score is no finite number (NaN or infinite)");
  const largest = Math.max(...ranking.map(({ index, score }) => Math.abs(score - (expected[index] ?? Number.NaN))));
  const figures = { documents: expected.length, largestDifference: round(largest, 7), tolerance };
  if (!(largest <= tolerance))
    return failed(`a score differs from the reference by ${largest.toFixed(4)}, more than ${tolerance}`, figures);
  if (ranking.some(({ score }, i) => score > (ranking[i - 1]?.score ?? Number.POSITIVE_INFINITY)))
    return failed("the documents do not come best first", figures);
  return passed(`${expected.length} scores within ${largest.toFixed(6)} of the reference`, figures);
}

/** What `POST /private/proof` answers. */
export interface ProofAnswer {
  device: Device;
  level: ProofLevel;
  providers: readonly string[];
  canary: { ok: boolean; detail?: string };
}

/** Judges a device proof: the canary must pass, the level must be reached, and a required device is not negotiable. */
export function judgeProof(spec: ServiceSpec, answer: unknown): Verdict & { proof: ProofAnswer | null } {
  const proof = readProof(answer);
  if (proof === null) return { ...failed("the proof cannot be read"), proof };
  const { device, level, providers, canary } = proof;
  const figures = { device, level, providers: providers.join(","), canary: canary.ok };
  const said = `${device} (${providers.join(", ")})`;
  if (!canary.ok) return { ...failed(`the canary answer is wrong on ${said}: ${canary.detail ?? "no detail"}`, figures), proof };
  if (spec.device.require !== null && device !== spec.device.require)
    return { ...failed(`${spec.device.require} is required and the live session runs on ${said}`, figures), proof };
  const wished = spec.device.prefer;
  if (wished !== "auto" && wished !== "cpu" && device !== wished && spec.device.require === null)
    return { ...passed(`${said}, though ${wished} is preferred; level ${level}`, figures), proof };
  if (device !== "cpu" && proofLevels.indexOf(level) < proofLevels.indexOf(spec.device.proof))
    return { ...failed(`the proof reaches level ${level} and level ${spec.device.proof} is asked for`, figures), proof };
  return { ...passed(`${said}, level ${level}, canary passed`, figures), proof };
}

function readProof(answer: unknown): ProofAnswer | null {
  const { device, level, providers, canary } = (answer ?? {}) as Partial<ProofAnswer>;
  const known = device === "cpu" || device === "cuda" || device === "mps";
  if (
    !known ||
    level === undefined ||
    !proofLevels.includes(level) ||
    !Array.isArray(providers) ||
    typeof canary?.ok !== "boolean"
  )
    return null;
  return { device, level, providers: providers.map(String), canary };
}

/** What `GET /private/index` answers, as far as deploying cares. */
export interface IndexStatus {
  writer: boolean;
  sequence: number;
  generation: string | null;
  lag: number;
  generations: readonly { key: string; vectors: number; missing: number }[];
}

/** Judges that a candidate index follows the right generation and does not write before it is its turn. */
export function judgeIndex(answer: unknown, generation: string | null, predecessorRuns: boolean): Verdict {
  const status = answer as Partial<IndexStatus> | null;
  if (typeof status?.writer !== "boolean" || typeof status.sequence !== "number")
    return failed("the index's status cannot be read");
  const figures = { writer: status.writer, sequence: status.sequence, generation: status.generation ?? "none" };
  if (status.writer && predecessorRuns) return failed("the candidate writes although its predecessor still serves", figures);
  if (generation !== null && status.generation !== generation)
    return failed(`it serves generation ${status.generation ?? "none"} and the embedder makes ${generation}`, figures);
  return passed(`generation consistent, ${predecessorRuns ? "read-only, " : ""}sequence ${status.sequence}`, figures);
}

/** Cosine of two vectors; NaN when either has no direction. */
export function cosine(a: readonly number[], b: readonly number[]): number {
  let dot = 0;
  let aa = 0;
  let bb = 0;
  for (const [i, x] of a.entries()) {
    const y = b[i] ?? Number.NaN;
    dot += x * y;
    aa += x * x;
    bb += y * y;
  }
  return dot / Math.sqrt(aa * bb);
}

const round = (value: number, digits: number): number => Number(value.toFixed(digits));
