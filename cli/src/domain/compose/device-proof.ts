import { proofLevels, type ProofLevel } from "../names.js";
import type { ProofAnswer } from "../gates.js";
import type { ComputeApp } from "./device-evidence.js";

/** What was seen around one probe inference. Null is what could not be asked. */
export interface Evidence {
  /** UUID of the GPU that the instance was given; for a MIG instance its own first, then the card's, under which drivers list it too. */
  reserved: readonly [string, ...string[]];
  /** What the service itself proved. */
  own: ProofAnswer;
  /** Host pids of the container's cgroup during the probe. */
  pids: readonly number[] | null;
  /** Processes on the GPUs before the instance was started, and during the probe. */
  apps: { before: readonly ComputeApp[] | null; during: readonly ComputeApp[] | null };
  /** Memory in use on the reserved GPU before the instance was started (null for one that ran already), and during the probe, MiB. */
  used: { before: number | null; during: number | null };
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
  const { used, reserved } = evidence;
  if (used.before === null || used.during === null)
    return { kind: "unknown", detail: "the memory of the GPU before and during the probe is not known" };
  const rise = used.during - used.before - growthOfOthers(evidence);
  const needed = neededMiB(evidence);
  const figures = `memory on ${reserved[0]} rose by ${Math.round(rise)} MiB; at least ${needed} MiB are expected`;
  return { kind: rise >= needed ? "rose" : "none", detail: figures };
}

/** What processes that are surely not the instance's took in the meantime. What they gave back is not credited to anybody. */
function growthOfOthers({ apps, pids, reserved }: Evidence): number {
  if (apps.during === null || apps.before === null || pids === null) return 0;
  const before = new Map(
    apps.before.filter(({ uuid }) => reserved.includes(uuid)).map(({ pid, usedMiB }) => [pid, usedMiB ?? 0]),
  );
  return apps.during
    .filter(({ uuid, pid }) => reserved.includes(uuid) && !pids.includes(pid))
    .reduce((sum, { pid, usedMiB }) => sum + Math.max(0, (usedMiB ?? 0) - (before.get(pid) ?? 0)), 0);
}
