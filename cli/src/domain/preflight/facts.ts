import type { NvidiaSmi } from "../nvidia-smi.js";

/** What was seen on one node, without judgement. Read from the answers of the preflight script; judged by the checks beside this file. */
export interface NodeFacts {
  /** Why some answers are missing, or null when all were asked for. */
  incomplete: string | null;
  /** What did not answer within its time limit. */
  hanging: readonly string[];
  access: Access;
  system: Seen<NodeSystem>;
  memory: Seen<{ totalMiB: number; availableMiB: number }>;
  clock: Seen<NodeClock>;
  dataDisk: Seen<DataDisk>;
  /** Tools by name; null for one that is not installed. */
  tools: Seen<Readonly<Record<string, string | null>>>;
  docker: NodeDocker;
  network: NodeNetwork;
  driver: NodeDriver;
  toolkit: NodeToolkit;
  smi: NvidiaSmi;
  gpuProcesses: Seen<readonly GpuProcess[]>;
  upkeep: Upkeep;
}

/** A fact, or why it is not known. */
export type Seen<T> = { seen: true; value: T } | { seen: false; because: string };

export const seen = <T>(value: T): Seen<T> => ({ seen: true, value });
export const unseen = (because: string): { seen: false; because: string } => ({ seen: false, because });

export interface Access {
  user: Seen<{ name: string; uid: number; groups: readonly string[] }>;
  /** How what needs root was asked; `none` with sudo's own words. */
  root: { by: "login" | "sudo" } | { by: "none"; because: string };
}

export interface NodeSystem {
  distribution: string | null;
  /** `ID` of os-release and those of `ID_LIKE`: `ubuntu`, `debian`. */
  families: readonly string[];
  /** `VERSION_ID`, such as `24.04`; null where the system rolls. */
  versionId: string | null;
  /** `uname -s`. */
  name: string;
  kernel: string;
  /** `uname -m`, such as `x86_64`. */
  architecture: string;
  wsl: 1 | 2 | null;
}

/** The node's clock minus ours: its true value is within `boundMs` of `skewMs`. */
export interface NodeClock {
  skewMs: number;
  boundMs: number;
  /** Whether the node's own time service says that it is synchronised; null when it has none that can be asked. */
  synchronised: boolean | null;
}

export interface Room {
  path: string;
  freeBytes: number;
  totalBytes: number;
  /** Null on file systems that have no fixed number. */
  freeInodes: number | null;
  /** What is mounted there: two places with one device share their room. */
  device: string;
}

/** The data directory, by the nearest folder above it that exists. */
export interface DataDisk extends Room {
  folder: boolean;
  /** Whether the folder, or the one it has to be made in, can be written with the rights that there are. */
  writable: boolean;
}

export type NodeDocker =
  | { state: "absent" }
  | { state: "refuses"; because: string }
  | { state: "unreachable"; because: string; hangs: boolean }
  | ({ state: "reachable" } & Engine);

export interface Engine {
  /** As whom the engine answers. */
  as: "user" | "sudo";
  client: string;
  server: string;
  apiVersion: string | null;
  /** From a snap, whose confinement hides the host's driver and folders. */
  snap: boolean;
  rootless: boolean;
  storageDriver: string | null;
  /** Whether images live in containerd's store rather than below Docker's folder. */
  containerdStore: boolean;
  /** Null when neither the engine nor its configuration says. */
  cdi: boolean | null;
  /** CDI devices that the engine lists; null for an engine that lists none (before 28.2, or because there is none). */
  cdiDevices: readonly string[] | null;
  /** What the engine finds wrong with CDI specifications: not readable, or two that name one device. */
  cdiErrors: readonly string[];
  runtimes: readonly string[];
  liveRestore: boolean | null;
  compose: Seen<string>;
  /** Room for images. */
  disk: Seen<Room>;
  containers: Seen<readonly Container[]>;
}

export interface Container {
  id: string;
  name: string;
  image: string;
  labels: Readonly<Record<string, string>>;
  published: readonly Published[];
}

/** A port of the host that a container answers on. */
export interface Published {
  address: string;
  port: number;
}

export interface NodeNetwork {
  listeners: Seen<readonly Listener[]>;
  /** Addresses of the node's interfaces, without prefix length. */
  addresses: Seen<readonly NodeAddress[]>;
  ufw: Seen<{ active: boolean; incoming: "allow" | "deny" | "reject" | null }>;
  /** Rules of DOCKER-USER, the chain that Docker leaves to the administrator, in iptables' words. */
  dockerUser: Seen<readonly string[]>;
  firewalld: Seen<boolean>;
}

export interface Listener extends Published {
  /** `nginx (pid 12)`; null when its owner is not visible. */
  process: string | null;
}

export interface NodeAddress {
  interface: string;
  address: string;
}

export interface NodeDriver {
  /** Version of the loaded kernel module. */
  loaded: Seen<string>;
  /** Version of the module that the next boot would load. */
  onDisk: Seen<string>;
  /** Version of libnvidia-ml; on WSL2, where it has none in its name, not seen. */
  library: Seen<string>;
  nouveau: boolean;
  /** Whether the kernel's module for unified memory is loaded, without which CUDA does not start; null where modules are not listed. */
  uvm: boolean | null;
  /** NVIDIA display or 3D controllers on the PCI bus. */
  pciDevices: Seen<number>;
  secureBoot: Seen<boolean>;
  /** Whether the kernel refused the module for its signature. */
  signatureRefused: boolean;
  xids: Seen<readonly XidEvent[]>;
  rebootPending: { packages: readonly string[] } | null;
}

/** A GPU error that the driver wrote to the kernel log since boot. */
export interface XidEvent {
  bus: string;
  code: number;
  text: string;
}

export interface NodeToolkit {
  version: Seen<string>;
  specs: Seen<readonly CdiSpec[]>;
}

/** A CDI specification of NVIDIA GPUs. */
export interface CdiSpec {
  path: string;
  /** Epoch seconds; null when unknown. */
  changed: number | null;
  kind: string;
  /** Names of devices as Docker takes them: `nvidia.com/gpu=all`. */
  devices: readonly string[];
  /** Driver it was made for; null where it does not say (WSL2). */
  driver: string | null;
  /** Programs its hooks start that are not there. */
  missingHooks: readonly string[];
}

export interface GpuProcess {
  gpu: string;
  /** Null where the driver does not say (WSL2, insufficient permissions). */
  pid: number | null;
  usedMiB: number | null;
  name: string;
  /** Id of its container, by its cgroup; null outside of one. */
  container: string | null;
}

/** What changes a driver behind everybody's back. */
export interface Upkeep {
  /** Installed packages of the driver; not seen on systems without dpkg. */
  driverPackages: Seen<readonly string[]>;
  held: Seen<readonly string[]>;
  /** Patterns that unattended-upgrades never touches; null when it is not installed or not on. */
  unattended: Seen<{ blacklist: readonly string[] } | null>;
}
