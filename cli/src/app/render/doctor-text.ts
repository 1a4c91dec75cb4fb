import { doctorText } from "../../domain/doctor/diagnose.js";
import type { DoctorReport } from "../doctor.js";

/** The report on this machine, then that on each node of the environment. */
export function doctorReportText({ findings, nodes }: Pick<DoctorReport, "findings" | "nodes">): string {
  const reports = nodes.map(({ node, findings: own }) => `node ${node}\n\n${doctorText(own)}`);
  return [nodes.length === 0 ? "" : "this machine\n\n", [doctorText(findings), ...reports].join("\n\n")].join("");
}
