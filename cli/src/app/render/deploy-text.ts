import type { DeployResult } from "../deploy.js";
import type { RepairResult } from "../repair.js";
import type { RollbackResult } from "../rollback.js";
import { hostsLeftOut } from "../../domain/host-table.js";
import { hostLines } from "./host-table-text.js";
import { blocks, section, shortDuration } from "./table.js";

/** How a deploy ended, for people. */
export function deployText(result: DeployResult): string {
  const release = result.release ?? "nothing";
  if (result.outcome === "nothing-to-do") return `Nothing to do: ${release} runs what the project file says.`;
  if (result.outcome === "mended")
    return blocks(`${release} serves again (${shortDuration(result.elapsedMs)}).`, section("Put right", result.mended));
  const was = result.previous === null ? "" : ` It replaced ${result.previous}, which stays warm for a rollback.`;
  return blocks(
    `${release} serves: traffic moved in ${shortDuration(result.switchMs ?? 0)}${held(result.heldMs)}, ${shortDuration(result.elapsedMs)} in all.${was}`,
    section("Put right", result.mended),
    section("Hosts", hostLines(result.hosts)),
    leftOutText(result.hosts, "deploy"),
    section("Gates", gateLines(result.gates)),
    section(
      "Addresses",
      result.services.map(
        ({ service, node, address }) => `${service.padEnd(9)} ${address}${node === undefined ? "" : ` on ${node}`}`,
      ),
    ),
  );
}

/** How a rollback ended, for people; the time that clients could notice comes first. */
export function rollbackText(result: RollbackResult): string {
  return blocks(
    `Switched in ${shortDuration(result.switchMs)}${held(result.heldMs)}: ${result.release} serves what ${result.rollbackOf} was (${result.path} path, in service after ${shortDuration(result.movedAfterMs)}, ${shortDuration(result.elapsedMs)} in all).`,
    section("Hosts", hostLines(result.hosts)),
    leftOutText(result.hosts, "rollback"),
    `${result.previous} stays warm; gpuctl rollback returns to it.`,
  );
}

/** What a repair did, for people. */
export function repairText(result: RepairResult): string {
  const serving = result.release === null ? "nothing is deployed" : `${result.release} serves`;
  return result.mended.length === 0
    ? `Nothing to mend: ${serving}.`
    : blocks(`Mended: ${serving}.`, section("What was done", result.mended));
}

/** What it means that hosts were passed by, and how to end that. */
function leftOutText(hosts: DeployResult["hosts"], made: "deploy" | "rollback"): string {
  const names = hostsLeftOut(hosts);
  if (names.length === 0) return "";
  const [they, are, them] = names.length === 1 ? ["it", "is", "it"] : ["they", "are", "them"];
  return `Mixed: ${names.join(" and ")} ${are} not part of this ${made}, and may serve another release (exit code 9).\nNext: gpuctl repair, when ${they} ${are} back, brings ${them} level.`;
}

function gateLines(gates: DeployResult["gates"]): readonly string[] {
  return gates.map(
    ({ service, gate, outcome, detail }) => `${service.padEnd(9)} ${gate.padEnd(12)} ${outcome.padEnd(7)} ${detail}`,
  );
}

const held = (heldMs: number | null): string => (heldMs === null ? "" : `, index writes held for ${shortDuration(heldMs)}`);
