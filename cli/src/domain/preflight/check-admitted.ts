import { blocker, warning, type DoctorFinding } from "../doctor/finding.js";
import { doorsOf } from "./check-network.js";
import type { NodeNeeds } from "./needs.js";
import { isLoopback } from "./network.js";

/**
 * The firewalls that came with the node know only the ports of its stack: another one is closed in front of it, or open on it. Nobody
 * has to be asked for this.
 */
export function checkAdmitted(needs: NodeNeeds): DoctorFinding[] {
  const { bind, promised } = needs;
  if (promised === undefined || isLoopback(bind)) return [];
  const unknown = doorsOf(needs).filter(({ port }) => !promised.ports.includes(port));
  const [first] = unknown;
  if (first === undefined) return [];
  const what = `the firewalls of the stack do not know ${unknown.map(({ name, port }) => `${name}'s port ${port}`).join(" and ")}`;
  const because = `the inventory (${promised.by}) has ${promised.ports.join(", ")}; a firewall of the provider closes every other port, and the node's own leaves it open`;
  const next = [
    `gpuctl:servicePorts in the stack's configuration, with ${first.port}, then gpuctl infra up`,
    `or in gpuctl.yaml one of its ports: ${promised.ports.join(", ")}`,
  ];
  // Whoever has an ingress for everybody opens its port elsewhere.
  const raise = unknown.some(({ name }) => name !== "ingress") ? blocker : warning;
  return [raise("ports", "port-not-admitted", what, because, next)];
}
