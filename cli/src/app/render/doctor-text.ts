import { doctorText } from "../../domain/doctor/diagnose.js";
import type { NodeFix } from "../doctor-nodes.js";
import type { DoctorReport } from "../doctor.js";

/** How much is said of repairs: that there are some, what each is, or how each went. */
export type FixDetail = "count" | "list";

/** The report on this machine, then that on each node of the environment with its safe repairs. */
export function doctorReportText({ findings, nodes }: Pick<DoctorReport, "findings" | "nodes">, detail: FixDetail): string {
  const reports = nodes.map(({ node, findings: own, fixes }) => {
    return [`node ${node}`, doctorText(own), ...fixesText(fixes, detail)].join("\n\n");
  });
  const machine = [...(nodes.length === 0 ? [] : ["this machine"]), doctorText(findings)].join("\n\n");
  return [machine, ...reports, ...(detail === "list" ? closing(nodes.flatMap(({ fixes }) => fixes)) : [])].join("\n\n");
}

function fixesText(fixes: readonly NodeFix[], detail: FixDetail): string[] {
  if (fixes.length === 0) return [];
  const count = `${fixes.length} safe ${fixes.length === 1 ? "repair" : "repairs"}`;
  if (detail === "count") return [`${count} can be made: gpuctl doctor --fix lists ${fixes.length === 1 ? "it" : "them"}.`];
  return [["repairs", ...fixes.map(fixText)].join("\n")];
}

const marks = { planned: "would   ", done: "done    ", failed: "FAILED  " } as const;

function fixText({ what, changes, safe, argv, outcome }: NodeFix): string {
  const failed = outcome.state === "failed" ? [`because ${outcome.because}`] : [];
  const details = [...failed, `changes: ${changes}`, `safe: ${safe}`, argv.join(" ")];
  return [`  ${marks[outcome.state]}${what}`, ...details.map((line) => `          ${line}`)].join("\n");
}

function closing(fixes: readonly NodeFix[]): string[] {
  if (fixes.length === 0) return ["There is nothing that can be repaired safely."];
  return fixes.every(({ outcome }) => outcome.state === "planned")
    ? ["Nothing was changed yet: gpuctl doctor --fix --confirm"]
    : [];
}
