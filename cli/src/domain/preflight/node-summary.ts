import type { Gpu } from "../nvidia-smi.js";
import type { NodeFacts, Room, Seen } from "./facts.js";
import { detailsOf, type GpuContainerSeen, type NodeDetails } from "./node-details.js";

/** What matters of a node later: what it was when a release was deployed to it. Null is what could not be seen. */
export interface NodeSummary {
  node: string;
  /** ISO 8601 UTC, by the clock of the machine that looked. */
  seenAt: string;
  system: string | null;
  kernel: string | null;
  /** Version of Docker's engine, of Compose, of the loaded NVIDIA driver, of the container toolkit. */
  docker: string | null;
  compose: string | null;
  driver: string | null;
  toolkit: string | null;
  /** None on a node without any; null where the driver does not say. */
  gpus: readonly GpuSummary[] | null;
  /** Room for images and models, bytes. */
  disk: DiskSummary | null;
  /** The node's clock minus that of the machine that looked, and how exactly that is known, ms. */
  clock: { skewMs: number; boundMs: number } | null;
  /** Absent in records of before these were kept. */
  details?: NodeDetails;
}

export interface GpuSummary {
  index: number;
  uuid: string;
  name: string;
  totalMiB: number | null;
  freeMiB: number | null;
  /** Who held memory of it, most first. */
  holders: readonly { who: string; usedMiB: number | null }[];
}

export interface DiskSummary {
  path: string;
  freeBytes: number;
  totalBytes: number;
}

/** A record is small: a GPU that dozens share names those that hold most. */
const mostHolders = 8;

/** The facts that are kept of a look at a node. @param seenAt  ISO 8601 UTC */
export function summaryOf(node: string, facts: NodeFacts, seenAt: string): NodeSummary {
  const { system, docker, driver, toolkit, smi, clock, dataDisk } = facts;
  const engine = docker.state === "reachable" ? docker : null;
  const room: Seen<Room> = engine?.disk.seen === true ? engine.disk : dataDisk;
  const without = smi.state === "absent" || smi.state === "no-devices";
  const gpus = smi.state === "gpus" ? smi.gpus : without ? [] : null;
  return {
    node,
    seenAt,
    system: system.seen ? (system.value.distribution ?? system.value.name) : null,
    kernel: system.seen ? system.value.kernel : null,
    docker: engine?.server ?? null,
    compose: engine?.compose.seen === true ? engine.compose.value : null,
    driver: valueOf(driver.loaded) ?? gpus?.[0]?.driver ?? null,
    toolkit: valueOf(toolkit.version),
    gpus: gpus?.map((gpu) => gpuOf(gpu, facts)) ?? null,
    disk: room.seen ? { path: room.value.path, freeBytes: room.value.freeBytes, totalBytes: room.value.totalBytes } : null,
    clock: clock.seen ? { skewMs: clock.value.skewMs, boundMs: clock.value.boundMs } : null,
    details: detailsOf(facts),
  };
}

/** The same with how a container ended that was started with a GPU for a moment; in place of an earlier one with that GPU. */
export function withGpuContainer(summary: NodeSummary, ended: GpuContainerSeen): NodeSummary {
  const { details } = summary;
  if (details === undefined) return summary;
  const others = (details.gpuContainers ?? []).filter(({ device }) => device !== ended.device);
  return { ...summary, details: { ...details, gpuContainers: [...others, ended] } };
}

/** Each node as it was seen now, else as it was seen before; GPU containers are tried by deploys only, so that the last results stay. */
export function latestSummaries(now: readonly NodeSummary[], before: readonly NodeSummary[]): readonly NodeSummary[] {
  const earlier = before.filter(({ node }) => !now.some((each) => each.node === node));
  const latest = now.map((summary) => {
    const tried = summary.details?.gpuContainers ?? [];
    const old = before.find(({ node }) => node === summary.node)?.details?.gpuContainers ?? [];
    return [...old, ...tried].reduce(withGpuContainer, summary);
  });
  return [...latest, ...earlier].sort((a, b) => (a.node < b.node ? -1 : 1));
}

function gpuOf({ index, uuid, name, totalMiB, freeMiB }: Gpu, { gpuProcesses, docker }: NodeFacts): GpuSummary {
  const containers = docker.state === "reachable" && docker.containers.seen ? docker.containers.value : [];
  const mine = gpuProcesses.seen ? gpuProcesses.value.filter(({ gpu }) => gpu === uuid) : [];
  const holders = mine.map((process) => ({
    who: containers.find(({ id }) => id === process.container)?.name ?? process.name,
    usedMiB: process.usedMiB,
  }));
  const largest = holders.toSorted((a, b) => (b.usedMiB ?? 0) - (a.usedMiB ?? 0)).slice(0, mostHolders);
  return { index, uuid, name, totalMiB, freeMiB, holders: largest };
}

const valueOf = <T>(fact: Seen<T>): T | null => (fact.seen ? fact.value : null);
