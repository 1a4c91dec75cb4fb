import { doctorGroups, type DoctorFinding } from "../doctor/finding.js";
import { checkAdmitted } from "./check-admitted.js";
import { checkNodeDocker } from "./check-docker.js";
import { checkDriver, checkToolkit } from "./check-driver.js";
import { checkGpus } from "./check-gpu.js";
import { checkAccess, checkClock, checkDisks, checkNodeMemory, checkNodeSystem } from "./check-machine.js";
import { checkNetwork } from "./check-network.js";
import type { NodeFacts } from "./facts.js";
import { hasCard, settleDevices, type NodeNeeds } from "./needs.js";

/** Every finding about a node for what an environment wants of it, in the report's order. */
export function judgeNode(facts: NodeFacts, wanted: NodeNeeds): DoctorFinding[] {
  const needs = settleDevices(wanted, facts);
  const findings = [
    ...checkAccess(facts),
    ...checkNodeSystem(facts),
    checkNodeMemory(facts, needs),
    checkClock(facts),
    ...checkDisks(facts, needs),
    ...checkGpus(facts, needs),
    // Where there is no card, that is all there is to say of GPUs.
    ...(hasCard(facts) ? [...checkDriver(facts, needs), ...checkToolkit(facts, needs)] : []),
    ...checkNodeDocker(facts, needs),
    ...checkNetwork(facts, needs),
    ...checkAdmitted(needs),
  ];
  return sortFindings(findings);
}

/** Findings in the report's order of groups. */
export function sortFindings(findings: readonly DoctorFinding[]): DoctorFinding[] {
  return findings.toSorted((left, right) => doctorGroups.indexOf(left.group) - doctorGroups.indexOf(right.group));
}
