import type { Engine, Listener, NodeFacts, Seen } from "./facts.js";

/** What else was seen of a node: what a person asks for when something is wrong there. Null is what could not be seen. */
export interface NodeDetails {
  memory: { totalMiB: number; availableMiB: number } | null;
  /** Where others can reach something, and who answers, such as `0.0.0.0:22 sshd (pid 7)`; `container shop_proxy` for Docker's own. */
  ports: readonly string[] | null;
  firewall: {
    /** What ufw does with what comes in; `off` when it is not active. */
    ufw: "allow" | "deny" | "reject" | "off" | "unknown" | null;
    firewalld: boolean | null;
    /** Rules of DOCKER-USER, the chain that Docker leaves to the administrator. */
    dockerUser: readonly string[] | null;
  };
  /** CDI devices that Docker can give to containers. */
  cdiDevices: readonly string[] | null;
  /** Whether every GPU keeps its driver loaded while nobody uses it; null where there is none or none says. */
  persistence: boolean | null;
  /** Installed packages of the driver, and those of them that an upgrade leaves alone. */
  driverPackages: { installed: readonly string[]; held: readonly string[] } | null;
  secureBoot: boolean | null;
  /** 1 or 2 inside Windows' subsystem for Linux. */
  wsl: 1 | 2 | null;
  /** Absent in records of before this was kept, as all below. */
  access?: { user: string | null; root: "login" | "sudo" | null };
  /** Versions of the driver's files: of the kernel module that the next boot would load, and of its library for programs. */
  driverFiles?: { module: string | null; library: string | null };
  /** Whether Docker gives devices to containers by CDI. */
  cdi?: boolean | null;
  /** Packages that wait for a restart of the machine, none where they are not told; null where no restart is pending. */
  rebootPending?: readonly string[] | null;
  /** How containers that were started with a GPU for a moment ended, one for each device. */
  gpuContainers?: readonly GpuContainerSeen[];
}

export interface GpuContainerSeen {
  /** As CDI names it. */
  device: string;
  /** In doctor's words: `a container starts and sees GPU 0`. */
  what: string;
  /** ISO 8601 UTC. */
  at: string;
}

/** A record is small: a busy machine names its first ports and rules. */
const most = 24;

/** What is kept of a look at a node beside its summary. */
export function detailsOf(facts: NodeFacts): NodeDetails {
  const { access, system, memory, network, docker, smi, upkeep, driver } = facts;
  const engine = docker.state === "reachable" ? docker : null;
  const persistence = smi.state === "gpus" ? smi.gpus.map((gpu) => gpu.persistence) : [];
  return {
    memory: memory.seen ? { totalMiB: memory.value.totalMiB, availableMiB: memory.value.availableMiB } : null,
    ports: portsOf(network.listeners, engine),
    firewall: {
      ufw: network.ufw.seen ? (network.ufw.value.active ? (network.ufw.value.incoming ?? "unknown") : "off") : null,
      firewalld: network.firewalld.seen ? network.firewalld.value : null,
      dockerUser: network.dockerUser.seen ? network.dockerUser.value.slice(0, most) : null,
    },
    cdiDevices: cdiDevicesOf(facts, engine),
    persistence: persistence.length === 0 || persistence.includes(null) ? null : persistence.every((on) => on === true),
    driverPackages: packagesOf(upkeep),
    secureBoot: driver.secureBoot.seen ? driver.secureBoot.value : null,
    wsl: system.seen ? system.value.wsl : null,
    access: { user: access.user.seen ? access.user.value.name : null, root: access.root.by === "none" ? null : access.root.by },
    driverFiles: { module: valueOf(driver.onDisk), library: valueOf(driver.library) },
    cdi: engine?.cdi ?? null,
    rebootPending: driver.rebootPending?.packages.slice(0, most) ?? null,
  };
}

const valueOf = (version: Seen<string>): string | null => (version.seen ? version.value : null);

/** What listens only for the machine itself is nobody else's matter. */
function portsOf(listeners: Seen<readonly Listener[]>, engine: Engine | null): readonly string[] | null {
  if (!listeners.seen) return null;
  const containers = engine?.containers.seen === true ? engine.containers.value : [];
  const publisher = (at: Listener): string | undefined =>
    containers.find(({ published }) => published.some(({ address, port }) => address === at.address && port === at.port))?.name;
  const ports = listeners.value
    .filter(({ address }) => !/^(?:127\.|::1$|\[::1\]$)/.test(address))
    .map((listener) => {
      const { address, port, process } = listener;
      const container = publisher(listener);
      const who = container === undefined ? (process ?? "") : `container ${container}`;
      return { port, text: `${address.includes(":") ? `[${address}]` : address}:${port} ${who}`.trim() };
    })
    .toSorted((a, b) => a.port - b.port);
  return [...new Set(ports.map(({ text }) => text))].slice(0, most);
}

/** As the engine lists them, else as the specifications say. */
function cdiDevicesOf({ toolkit }: NodeFacts, engine: Engine | null): readonly string[] | null {
  if (engine?.cdiDevices != null) return engine.cdiDevices.slice(0, most);
  return toolkit.specs.seen ? [...new Set(toolkit.specs.value.flatMap(({ devices }) => devices))].slice(0, most) : null;
}

function packagesOf({ driverPackages, held }: NodeFacts["upkeep"]): NodeDetails["driverPackages"] {
  if (!driverPackages.seen || !held.seen) return null;
  const installed = driverPackages.value;
  return { installed: installed.slice(0, most), held: installed.filter((name) => held.value.includes(name)).slice(0, most) };
}
