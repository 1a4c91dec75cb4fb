import { isOpen, parseNetwork } from "./cidr.js";

/** One rule of a firewall at the provider; everything that no rule names is dropped. */
export interface FirewallRule {
  description: string;
  direction: "in";
  protocol: "tcp" | "icmp";
  /** Null for ICMP. */
  port: string | null;
  sourceIps: string[];
}

export interface FirewallRequest {
  /** Networks that operators come from. */
  operators: readonly string[];
  /** Networks that the app comes from. */
  app: readonly string[];
  /** Ports of the services. */
  servicePorts: readonly number[];
  sshPort: number;
}

/** Rules of a firewall in front of a host: SSH from the operators, services from the app, nothing else but ping from both. */
export function firewallRules({ operators, app, servicePorts, sshPort }: FirewallRequest): FirewallRule[] {
  const tcp = (description: string, port: number, sources: readonly string[]): FirewallRule => ({
    description,
    direction: "in",
    protocol: "tcp",
    port: String(port),
    sourceIps: sources.map(withPrefix),
  });
  const rules = [
    tcp("SSH from operators", sshPort, operators),
    ...servicePorts.map((port) => tcp("service from the app", port, app)),
    {
      description: "ping from operators and the app",
      direction: "in" as const,
      protocol: "icmp" as const,
      port: null,
      sourceIps: [...new Set([...operators, ...app].map(withPrefix))],
    },
  ];
  return rules.filter(({ sourceIps }) => sourceIps.length > 0);
}

/** A network from which SSH would be open to the internet, unless it is spelled out a second time. */
export const opensSsh = (network: string, again: readonly string[]): boolean => {
  const parsed = parseNetwork(network);
  return parsed !== null && isOpen(parsed) && !again.includes(network);
};

/** The provider wants networks, also of single addresses. */
function withPrefix(network: string): string {
  if (network.includes("/")) return network;
  return network.includes(":") ? `${network}/128` : `${network}/32`;
}
