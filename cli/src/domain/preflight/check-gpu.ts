import { blocker, ok, warning, type DoctorFinding } from "../doctor/finding.js";
import { checkGpu as checkCards } from "../doctor/gpu.js";
import type { SystemFacts } from "../doctor/facts.js";
import { driverMajor, type Gpu, type NvidiaSmi } from "../nvidia-smi.js";
import { commandsFor } from "./commands.js";
import type { Container, GpuProcess, NodeFacts } from "./facts.js";
import { isOwn, names, wantsGpu, type NodeNeeds, type ServiceNeeds } from "./needs.js";

type Promised = NonNullable<NodeNeeds["promised"]>;

/** The driver branch that hosts are prepared with and images are built for. */
const leastDriver = 580;

/** The cards: there, whole, those that were reserved, with room for what is to run on them. */
export function checkGpus(facts: NodeFacts, needs: NodeNeeds): DoctorFinding[] {
  const wanting = needs.services.filter(wantsGpu);
  const { smi } = facts;
  if (smi.state !== "gpus") return [withoutCards(facts, smi, wanting), ...checkPromise([], needs)];
  const services = needs.services.map((service) => ({
    name: service.name,
    prefersCuda: wantsGpu(service),
    requiresCuda: service.device.require === "cuda",
    proof: service.device.proof,
  }));
  const gpuFacts = { smi, pciDevices: null, kernelModule: null };
  // Doctor's own words for this machine name packages of Ubuntu only; here the node's system is known.
  const cards = checkCards(gpuFacts, systemFacts(facts), services).filter(({ code }) => code !== "driver-old");
  return [
    ...cards,
    ...checkBranch(facts, smi.gpus, wanting),
    ...checkPromise(smi.gpus, needs),
    ...checkReservations(smi.gpus, wanting),
    ...smi.gpus.flatMap((gpu) => checkRoom(gpu, facts, needs)),
  ];
}

/** A card that is gone from a host that was made with it is a fault, however well its services would do without. */
function checkPromise(seen: readonly Gpu[], { promised }: NodeNeeds): DoctorFinding[] {
  if (promised === undefined) return [];
  const { expected } = promised.gpus;
  const said = "gpu of this node in the stack's configuration, then gpuctl infra up";
  if (seen.length < expected) {
    const what = `${seen.length} of ${expected} GPUs can be seen`;
    const because = `the inventory (${promised.by}) promises ${expected} of this node`;
    return [blocker("GPU", "gpus-missing", what, because, ["lspci -d 10de:", `when it was taken out on purpose: ${said}`])];
  }
  return seen.flatMap((gpu) => {
    const because = unlikePromised(gpu, promised.gpus);
    if (because === null) return [];
    const what = `GPU ${gpu.index} ${gpu.name}: not the card that was promised`;
    const next = ["nvidia-smi -L", `when it was exchanged on purpose: ${said}`];
    return [warning("GPU", "gpu-other", what, `the inventory (${promised.by}) promises ${because}`, next)];
  });
}

/** Of the memory on the box, ECC takes a sixteenth and the driver some more: so much may be missing. */
const leastShare = 0.9;

/** @returns what was promised in place of this card; null when the card is like it, as far as anybody said */
function unlikePromised({ name, totalMiB, fault }: Gpu, { product, memory }: Promised["gpus"]): string | null {
  if (fault !== null) return null;
  const plain = (text: string): string =>
    text
      .toLowerCase()
      .replace(/^nvidia /, "")
      .trim();
  if (product !== null && plain(product) !== plain(name)) return product;
  return memory !== null && totalMiB !== null && totalMiB < memory * leastShare ? `${memory} MiB, and it has ${totalMiB}` : null;
}

function systemFacts({ system }: NodeFacts): SystemFacts {
  const value = system.seen ? system.value : null;
  return {
    platform: "linux",
    release: value?.kernel ?? "",
    architecture: value?.architecture ?? "",
    distribution: value?.distribution ?? null,
    wsl: value?.wsl ?? null,
    container: false,
  };
}

type WithoutCards = Exclude<NvidiaSmi, { state: "gpus" }>;

/** A node without a GPU is no flaw for services that never asked for one. */
function withoutCards(facts: NodeFacts, smi: WithoutCards, wanting: readonly ServiceNeeds[]): DoctorFinding {
  const { code, what, because, next } = explain(facts, smi);
  if (wanting.length === 0) return ok("GPU", code, `${what}; no service of this node wants one`);
  const requiring = wanting.filter(({ device }) => device.require === "cuda");
  if (requiring.length > 0) return blocker("GPU", code, what, `${because}; ${names(requiring)} cannot serve without one`, next);
  return warning("GPU", code, what, `${because}; ${names(wanting)} will run on the CPU`, next);
}

interface Explanation {
  code: string;
  what: string;
  because: string;
  next: readonly string[];
}

function explain(facts: NodeFacts, smi: WithoutCards): Explanation {
  const { installDriver, sudo } = commandsFor(facts);
  const log = `${sudo}dmesg | grep -iE 'nvrm|xid'`;
  switch (smi.state) {
    case "absent":
      return withoutTool(facts);
    case "no-devices": {
      const next = ["lspci -d 10de:", log, "nvidia-smi -L"];
      return { code: "no-gpu", what: "no NVIDIA GPU", because: "the driver is loaded and finds no device", next };
    }
    case "mismatch":
      return { code: "driver-mismatch", ...mismatch(facts, smi.detail) };
    case "no-driver":
      return notLoaded(facts, smi.detail);
    case "too-old":
      return { code: "driver-old", what: "the NVIDIA driver is too old to be asked", because: smi.detail, next: installDriver };
    case "hangs": {
      const because = "a GPU that fell off the bus or a stuck driver makes it wait";
      return {
        code: "driver-hangs",
        what: `nvidia-smi did not answer within ${smi.seconds} s`,
        because,
        next: [log, `${sudo}reboot`],
      };
    }
    case "failed":
      return { code: "driver-failed", what: "nvidia-smi failed", because: smi.detail, next: ["nvidia-smi", log] };
  }
}

function withoutTool(facts: NodeFacts): Explanation {
  const { driver, system } = facts;
  const { installDriver } = commandsFor(facts);
  const cards = driver.pciDevices.seen ? driver.pciDevices.value : 0;
  if (driver.loaded.seen) {
    const because = `the kernel module ${driver.loaded.value} is loaded and nvidia-smi is not installed`;
    return { code: "driver-tools-missing", what: "nvidia-smi is missing", because, next: installDriver };
  }
  if (cards > 0) {
    const because = `the PCI bus has ${cards} NVIDIA ${cards === 1 ? "GPU" : "GPUs"}, and nvidia-smi is not installed${driver.nouveau ? "; the kernel uses nouveau" : ""}`;
    return { code: "driver-missing", what: "there is a GPU, but no driver", because, next: installDriver };
  }
  const wsl = system.seen && system.value.wsl === 2;
  const next = wsl ? installDriver : ["lspci -d 10de:", "place the service on a node that has a GPU: nodes: in gpuctl.yaml"];
  return { code: "no-gpu", what: "no NVIDIA GPU", because: "nvidia-smi is not installed and no GPU was seen", next };
}

/** What the loaded module and the user space say against each other, and whom it hits. */
function mismatch(facts: NodeFacts, detail: string): Omit<Explanation, "code"> {
  const { driver } = facts;
  const loaded = driver.loaded.seen ? `, kernel module ${driver.loaded.value}` : "";
  const library = driver.library.seen ? `, libraries ${driver.library.value}` : "";
  const because = `${detail}${loaded}${library}: what runs goes on, but no new process and no new container can use the GPU`;
  return {
    what: "the NVIDIA driver was upgraded and the machine not restarted",
    because,
    next: [`${commandsFor(facts).sudo}reboot`],
  };
}

function notLoaded(facts: NodeFacts, detail: string): Explanation {
  const { driver } = facts;
  const { sudo, installDriver } = commandsFor(facts);
  const what = "the NVIDIA driver is not loaded";
  if (driver.signatureRefused || (driver.secureBoot.seen && driver.secureBoot.value)) {
    const because = `${detail}; Secure Boot is on${driver.signatureRefused ? ", and the kernel refused the module's signature" : ""}`;
    const next = [
      "use the signed packages of Ubuntu: apt install linux-modules-nvidia-580-server-open-generic",
      `or enrol the key at the console: ${sudo}mokutil --import /var/lib/shim-signed/mok/MOK.der; ${sudo}reboot`,
    ];
    return { code: "driver-unsigned", what, because, next };
  }
  if (driver.nouveau) {
    const because = `${detail}; the kernel uses nouveau for the GPU`;
    return { code: "driver-nouveau", what, because, next: [`${sudo}reboot, once nouveau is blacklisted in /etc/modprobe.d`] };
  }
  const next = [`${sudo}modprobe nvidia`, "dkms status", ...installDriver];
  return { code: "driver-not-loaded", what, because: detail, next };
}

function checkBranch(facts: NodeFacts, gpus: readonly Gpu[], wanting: readonly ServiceNeeds[]): DoctorFinding[] {
  const version = gpus[0]?.driver ?? "";
  const major = driverMajor(version);
  if (wanting.length === 0 || major === null || major >= leastDriver) return [];
  const because = `the service images need driver ${leastDriver} or newer`;
  return [warning("GPU", "driver-old", `NVIDIA driver ${version}`, because, commandsFor(facts).installDriver)];
}

function checkReservations(gpus: readonly Gpu[], wanting: readonly ServiceNeeds[]): DoctorFinding[] {
  const uuids = new Set(gpus.flatMap(({ uuid, instances }) => [uuid, ...instances.map((instance) => instance.uuid)]));
  return wanting
    .filter(({ gpu }) => gpu !== null && !uuids.has(gpu))
    .map(({ name, gpu }) => {
      const because = `it has ${[...uuids].join(", ")}`;
      const next = ["nvidia-smi -L", `in gpuctl.yaml, for ${name}: gpu: one of them`];
      return blocker("GPU", "gpu-not-found", `${name} reserves ${gpu ?? ""}, which this node does not have`, because, next);
    });
}

/** Memory that services without a reservation of their own get is that of the first card. */
function checkRoom(gpu: Gpu, facts: NodeFacts, needs: NodeNeeds): DoctorFinding[] {
  const placed = needs.services.filter(
    (service) => wantsGpu(service) && (service.gpu === gpu.uuid || (service.gpu === null && gpu.index === 0)),
  );
  if (gpu.freeMiB === null || gpu.fault !== null) return [];
  const label = `GPU ${gpu.index}`;
  const users = usersOf(gpu, facts, needs);
  // Without the engine's word nobody knows whose a process is.
  const foreign = facts.docker.state === "reachable" ? users.filter(({ own }) => !own) : [];
  const held = users.filter(({ own }) => own).reduce((sum, { usedMiB }) => sum + usedMiB, 0);
  const needed = placed.reduce((sum, { vramMiB }) => sum + (vramMiB ?? 0), 0);
  const by = users.length === 0 ? "" : `; in use by ${users.map(({ who, usedMiB }) => `${who} ${usedMiB} MiB`).join(", ")}`;
  const what = `${label}: ${gpu.freeMiB} MiB of VRAM free${by}`;
  if (needed > gpu.freeMiB + held) {
    const because = `${names(placed)} ${placed.length === 1 ? "needs" : "need"} ${needed} MiB${held > 0 ? `, and ${held} MiB come back when the old release stops` : ""}`;
    const next = foreign.length > 0 ? foreign.map(({ who }) => `end ${who}`) : ["nvidia-smi"];
    const elsewhere = "or place a service on another GPU: gpu: in gpuctl.yaml";
    return [blocker("GPU", "vram-low", what, because, [...next, elsewhere])];
  }
  if (placed.length > 0 && foreign.length > 0) {
    const because = "memory that others take cannot be planned: theirs may grow when a candidate loads";
    const next = foreign.map(({ who }) => `end ${who}, or reserve another GPU`);
    return [warning("GPU", "vram-shared", what, because, next)];
  }
  return [ok("GPU", "vram", what)];
}

interface VramUser {
  who: string;
  usedMiB: number;
  own: boolean;
}

function usersOf({ uuid }: Gpu, { gpuProcesses, docker }: NodeFacts, needs: NodeNeeds): VramUser[] {
  const containers = docker.state === "reachable" && docker.containers.seen ? docker.containers.value : [];
  const processes = gpuProcesses.seen ? gpuProcesses.value.filter(({ gpu }) => gpu === uuid) : [];
  return processes.map((process) => userOf(process, containers, needs));
}

function userOf(process: GpuProcess, containers: readonly Container[], needs: NodeNeeds): VramUser {
  const container = containers.find(({ id }) => id === process.container);
  const pid = process.pid === null ? "" : ` (pid ${process.pid})`;
  const who = container === undefined ? `${process.name}${pid}` : `the container ${container.name}${pid}`;
  return { who, usedMiB: process.usedMiB ?? 0, own: container !== undefined && isOwn(container, needs) };
}
