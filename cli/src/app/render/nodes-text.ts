import type { GpuSummary, NodeSummary } from "../../domain/preflight/node-summary.js";
import type { NodeStatus, ServiceOnNode } from "../status-nodes.js";
import { nodeDetailsText } from "./node-details-text.js";
import { processText } from "./process-text.js";
import { blocks, table } from "./table.js";

/**
 * The nodes of an environment, for people: what each runs and keeps, and what it was when it was looked at last.
 * @param verbose  all that was seen then
 */
export function nodesText(nodes: readonly NodeStatus[], verbose = false): string {
  if (nodes.length === 0) return "";
  const seen = nodes.flatMap((node) => (node.seen === null ? [] : [node.seen]));
  return blocks(
    table(
      ["node", "services", "records", "GPU", "driver"],
      nodes.map((node) => [
        node.node,
        servicesText(node),
        node.silent === null ? node.records : "-",
        gpusText(node.seen),
        node.seen?.driver ?? "-",
      ]),
    ),
    table(["node", "system", "Docker", "free disk", "clock", "seen at"], seen.map(machineOf)),
    ...(verbose ? [nodeDetailsText(seen)] : []),
  );
}

function servicesText({ silent, services }: NodeStatus): string {
  if (silent !== null) return "cannot be reached";
  return services.map(serviceText).join(", ") || "none";
}

function serviceText({ service, process, traffic }: ServiceOnNode): string {
  if (process?.state === "running") return `${service} ${traffic ?? "unknown"}`;
  return `${service} ${processText(process)}`;
}

function gpusText(seen: NodeSummary | null): string {
  if (seen === null) return "-";
  return seen.gpus === null ? "cannot be asked" : seen.gpus.map(gpuText).join(", ") || "none";
}

function gpuText({ name, totalMiB, freeMiB, holders }: GpuSummary): string {
  const held = holders.map(({ who, usedMiB }) => `${who}${usedMiB === null ? "" : ` ${usedMiB} MiB`}`).join(", ");
  const room = freeMiB === null || totalMiB === null ? "" : `, ${freeMiB} of ${totalMiB} MiB free`;
  return `${name}${room}${held === "" ? "" : ` (${held})`}`;
}

function machineOf({ node, system, kernel, docker, compose, disk, clock, seenAt }: NodeSummary): readonly string[] {
  return [
    node,
    `${system ?? "unknown"}${kernel === null ? "" : `, kernel ${kernel}`}`,
    `${docker ?? "-"}${compose === null ? "" : `, Compose ${compose}`}`,
    disk === null ? "-" : `${gigabytes(disk.freeBytes)} of ${gigabytes(disk.totalBytes)} GB in ${disk.path}`,
    clock === null ? "-" : clockText(clock),
    seenAt,
  ];
}

/** Within what could be measured the clock is right. */
function clockText({ skewMs, boundMs }: NonNullable<NodeSummary["clock"]>): string {
  if (Math.abs(skewMs) <= boundMs) return "right";
  return `${(Math.abs(skewMs) / 1000).toFixed(1)} s ${skewMs > 0 ? "ahead" : "behind"}`;
}

const gigabytes = (bytes: number): string => (bytes / 1e9).toFixed(1);
