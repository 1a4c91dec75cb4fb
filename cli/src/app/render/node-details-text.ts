import type { NodeDetails } from "../../domain/preflight/node-details.js";
import type { NodeSummary } from "../../domain/preflight/node-summary.js";
import { blocks, section } from "./table.js";

/** What else is known of each node, a line for each fact, for people. */
export function nodeDetailsText(nodes: readonly NodeSummary[]): string {
  return blocks(
    ...nodes.map(({ node, seenAt, details }) => section(`${node}, seen at ${seenAt}`, details ? linesOf(details) : [])),
  );
}

function linesOf(details: NodeDetails): readonly string[] {
  const { memory, ports, firewall, cdiDevices, driverPackages, wsl } = details;
  const { access, driverFiles, rebootPending, gpuContainers = [] } = details;
  return [
    ...(access === undefined
      ? []
      : [`access: ${access.user ?? "unknown"}, ${access.root === null ? "no root" : roots[access.root]}`]),
    `memory: ${memory === null ? "unknown" : `${memory.availableMiB} of ${memory.totalMiB} MiB available`}`,
    `reachable ports: ${listed(ports)}`,
    `firewall: ufw ${firewall.ufw ?? "unknown"}, firewalld ${onOff(firewall.firewalld)}, DOCKER-USER ${listed(firewall.dockerUser, "; ")}`,
    ...(details.cdi === undefined ? [] : [`CDI in Docker: ${onOff(details.cdi)}`]),
    `CDI devices: ${listed(cdiDevices)}`,
    ...gpuContainers.map(({ device, what, at }) => `container with ${device}: ${what} (${at})`),
    ...(driverFiles === undefined
      ? []
      : [`driver on disk: module ${driverFiles.module ?? "unknown"}, library ${driverFiles.library ?? "unknown"}`]),
    `persistence: ${onOff(details.persistence)}`,
    `driver packages: ${driverPackages === null ? "unknown" : packagesText(driverPackages)}`,
    `Secure Boot: ${onOff(details.secureBoot)}`,
    ...(rebootPending == null ? [] : [`restart pending: ${rebootPending.join(", ") || "packages are not told"}`]),
    ...(wsl === null ? [] : [`WSL${wsl}`]),
  ];
}

const roots = { login: "logged in as root", sudo: "root by sudo" } as const;

function packagesText({ installed, held }: NonNullable<NodeDetails["driverPackages"]>): string {
  if (installed.length === 0) return "none";
  const free = installed.filter((name) => !held.includes(name));
  return free.length === 0 ? `${installed.length} held` : `${held.length} of ${installed.length} held; not ${free.join(", ")}`;
}

const listed = (all: readonly string[] | null, between = ", "): string =>
  all === null ? "unknown" : all.join(between) || "none";
const onOff = (fact: boolean | null): string => (fact === null ? "unknown" : fact ? "on" : "off");
