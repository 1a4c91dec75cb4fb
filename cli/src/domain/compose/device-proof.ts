import { judgeProof, type ProofAnswer, type Verdict } from "../gates.js";
import { proofLevels, type ProofLevel } from "../names.js";
import type { ServiceSpec } from "../release.js";
import type { ReplicaFacts } from "../service-types.js";
import type { ComputeApp, DeviceSight } from "./device-evidence.js";

/** What was seen around one probe inference. */
export interface Evidence extends DeviceSight {
  /** What the service itself proved. */
  own: ProofAnswer;
  /** What its neighbours on the GPU hold at most by their own word, MiB; null when one of them does not tell. */
  neighboursMiB: number | null;
  /** What loading the model is expected to take at least, MiB; null when nobody knows. */
  expectedMiB: number | null;
  /** Weakest level that is accepted. */
  required: ProofLevel;
}

export type Judgement =
  | { outcome: "proven"; level: ProofLevel; detail: string }
  /** It may well run there, but less was seen than is asked for. */
  | { outcome: "insufficient"; level: ProofLevel; detail: string }
  /** What the service says and what is seen contradict each other: the gate fails. */
  | { outcome: "disagreement"; detail: string };

/** A judged proof with what it stands for. */
export interface SeenProof extends Verdict {
  /** With the level that is reached; null where nothing is proven. */
  proof: ProofAnswer | null;
  /** What the instance holds of its GPU, MiB; null where that cannot be told. Absent where no GPU was looked at. */
  heldMiB?: number | null;
}

/**
 * Judges what an instance that was given a GPU proves of itself together with what was seen of it. One that may fall back to its CPU
 * passes there on its own word; one that says `cuda` is believed as far as it is seen.
 */
export function judgeSeenProof(
  spec: ServiceSpec,
  answer: unknown,
  sight: DeviceSight,
  around: Pick<Evidence, "expectedMiB" | "neighboursMiB">,
): SeenProof {
  const claimed = judgeProof(spec, answer);
  const own = claimed.proof;
  const { require, proof: required } = spec.device;
  if (own === null || (require ?? own.device) !== "cuda") return claimed;
  const judgement = judgeFromOutside({ ...sight, ...around, own, required });
  const said = `${own.device} (${own.providers.join(", ")})`;
  const figures = { device: own.device, providers: own.providers.join(","), canary: own.canary.ok };
  switch (judgement.outcome) {
    case "proven":
    case "insufficient": {
      const { level, detail } = judgement;
      const passed = judgement.outcome === "proven";
      const sentence = passed ? `${said}, level ${level}: ${detail}` : detail;
      return { passed, detail: sentence, figures: { ...figures, level }, proof: { ...own, level }, heldMiB: heldMiB(sight) };
    }
    case "disagreement":
      return { passed: false, detail: judgement.detail, figures, proof: null };
  }
}

/** A CUDA context with its libraries, which allocators do not count: 300 to 550 MiB, by card and driver. */
const contextMiB = 600;

/** What an instance holds at most by the proof it gives of itself, MiB; null when it does not tell. */
export function saidToHold(answer: unknown): number | null {
  const { device, allocatedBytes, replica } = (answer ?? {}) as {
    device?: unknown;
    allocatedBytes?: unknown;
    replica?: Partial<ReplicaFacts> | null;
  };
  // An index proves its CPU, and may have a copy on the GPU besides, of a size that it does not tell.
  if (replica?.device === "cuda" || replica?.state === "starting" || replica?.state === "failed") return null;
  if (device !== "cuda") return typeof device === "string" ? 0 : null;
  return typeof allocatedBytes === "number" ? Math.ceil(allocatedBytes / 1024 / 1024) + contextMiB : null;
}

/** Less than this is no model: a bare CUDA context may take it. */
const leastMiB = 64;

/** Of the expected memory: allocators and file sizes differ, a service on the CPU takes nothing. */
const convincingShare = 0.5;

/**
 * Judges from outside whether an instance computes on the GPU it was given. The strongest level that is reached counts:
 * `process` (a pid of its cgroup holds memory on that GPU), else `vram` (memory there rose as expected, and nobody else explains
 * it), else `self` (nothing can be seen here: WSL2, MIG without accounting, a listing inside of a container). What can be seen
 * and contradicts the service is never outvoted by its own word.
 */
export function judgeFromOutside(evidence: Evidence): Judgement {
  const { own } = evidence;
  if (!own.canary.ok) return disagree(`the canary answer is wrong: ${own.canary.detail ?? "no detail"}`);
  if (own.device !== "cuda") return disagree(`not on GPU: the service itself says that it computes on ${own.device}`);
  const process = seenProcess(evidence);
  if (process.kind === "contradicts") return disagree(process.detail);
  if (process.kind === "here") return reached(evidence, "process", process.detail);
  const memory = seenMemory(evidence);
  if (memory.kind === "none") return disagree(`not on GPU: ${memory.detail}`);
  if (memory.kind === "rose") return reached(evidence, "vram", `${memory.detail}; ${process.detail}`);
  if (process.kind === "absent") return disagree(`not on GPU: ${process.detail}`);
  return reached(evidence, "self", `${memory.detail}; ${process.detail}`);
}

const disagree = (detail: string): Judgement => ({ outcome: "disagreement", detail });

function reached({ required }: Evidence, level: ProofLevel, detail: string): Judgement {
  if (proofLevels.indexOf(level) >= proofLevels.indexOf(required)) return { outcome: "proven", level, detail };
  return { outcome: "insufficient", level, detail: `level ${level} is reached and ${required} is asked for: ${detail}` };
}

type SeenProcess = { kind: "here" | "contradicts" | "absent" | "unseen"; detail: string };

function seenProcess(evidence: Evidence): SeenProcess {
  const { pids, apps, reserved } = evidence;
  if (pids === null || pids.length === 0) return { kind: "unseen", detail: "the container's processes could not be listed" };
  if (apps.during === null) return { kind: "unseen", detail: "nvidia-smi does not list processes here" };
  const mine = apps.during.filter(({ pid }) => pids.includes(pid));
  const here = mine.filter(({ uuid }) => reserved.includes(uuid));
  if (here.length > 0) return holding(here, evidence);
  const [other] = mine;
  if (other !== undefined) {
    const detail = `not on its GPU: pid ${other.pid} of its container works on ${other.uuid} and ${reserved[0]} was reserved`;
    return { kind: "contradicts", detail };
  }
  // An empty list proves nothing: inside containers, under WSL2 and without permission nobody is listed.
  if (apps.during.length === 0) return { kind: "unseen", detail: "nvidia-smi lists no process at all" };
  return {
    kind: "absent",
    detail: `none of its ${pids.length} processes is among the ${apps.during.length} that nvidia-smi lists`,
  };
}

/** Memory of its GPU that an instance holds, by its processes, else by what rose and is nobody else's; null when that cannot be told. */
function heldMiB(sight: DeviceSight): number | null {
  const { apps, pids, reserved, used, neighbours } = sight;
  const here = apps.during?.filter(({ pid, uuid }) => pids?.includes(pid) === true && reserved.includes(uuid)) ?? [];
  const known = here.flatMap((app) => app.usedMiB ?? []);
  if (known.length > 0 && known.length === here.length) return known.reduce((sum, each) => sum + each, 0);
  if (used.before === null || used.during === null || (neighbours.length > 0 && !listsMemory(sight))) return null;
  return Math.max(0, used.during - used.before - growthOfOthers(sight));
}

/** A context alone takes memory too: what is held must be worth a model. */
function holding(here: readonly ComputeApp[], evidence: Evidence): SeenProcess {
  const known = here.flatMap(({ usedMiB }) => usedMiB ?? []);
  if (known.length < here.length) return { kind: "unseen", detail: "its process is listed on the GPU, without its memory" };
  const held = known.reduce((sum, used) => sum + used, 0);
  const who = `pid ${here.map(({ pid }) => pid).join(", ")} of its container holds ${held} MiB on ${evidence.reserved[0]}`;
  if (held >= neededMiB(evidence)) return { kind: "here", detail: who };
  return { kind: "contradicts", detail: `not on GPU: ${who}, and at least ${neededMiB(evidence)} MiB are expected` };
}

const neededMiB = ({ expectedMiB }: Evidence): number => Math.max(leastMiB, Math.round((expectedMiB ?? 0) * convincingShare));

type SeenMemory = { kind: "rose" | "none" | "unknown"; detail: string };

function seenMemory(evidence: Evidence): SeenMemory {
  const { used, reserved, neighbours, neighboursMiB } = evidence;
  if (used.before === null || used.during === null)
    return { kind: "unknown", detail: "the memory of the GPU before and during the probe is not known" };
  const rise = used.during - used.before - growthOfOthers(evidence);
  const needed = neededMiB(evidence);
  const figures = `memory on ${reserved[0]} rose by ${Math.round(rise)} MiB; at least ${needed} MiB are expected`;
  if (rise < needed) return { kind: "none", detail: figures };
  if (neighbours.length === 0 || listsMemory(evidence)) return { kind: "rose", detail: figures };
  const who = neighbours.join(" and ");
  if (neighboursMiB !== null && rise - neighboursMiB >= needed)
    return { kind: "rose", detail: `${figures} beside at most ${neighboursMiB} MiB of ${who}` };
  return { kind: "unknown", detail: `${figures}; ${who} was started on it too, and whose it is cannot be told` };
}

/** Whether what others hold on the GPU is told, so that it can be taken off. */
const listsMemory = ({ apps, pids, reserved }: DeviceSight): boolean =>
  pids !== null && apps.during?.some(({ uuid, usedMiB }) => reserved.includes(uuid) && usedMiB !== null) === true;

/** What processes that are surely not the instance's took in the meantime. What they gave back is not credited to anybody. */
function growthOfOthers({ apps, pids, reserved }: DeviceSight): number {
  if (apps.during === null || apps.before === null || pids === null) return 0;
  const before = new Map(
    apps.before.filter(({ uuid }) => reserved.includes(uuid)).map(({ pid, usedMiB }) => [pid, usedMiB ?? 0]),
  );
  return apps.during
    .filter(({ uuid, pid }) => reserved.includes(uuid) && !pids.includes(pid))
    .reduce((sum, { pid, usedMiB }) => sum + Math.max(0, (usedMiB ?? 0) - (before.get(pid) ?? 0)), 0);
}
