import { blocker, ok, warning, type DoctorFinding } from "../doctor/finding.js";
import { commandsFor, rootSteps } from "./commands.js";
import type { NodeFacts, NodeSystem, Room, Seen } from "./facts.js";
import { names, wantsGpu, type NodeNeeds, type ServiceNeeds } from "./needs.js";

/** Room beside what is brought, for unpacking, logs and records. */
const spare = 1.2;
/** Asked for where nobody knows how much is to be brought: an image with CUDA, unpacked, and a larger model. */
const unknownBytes = 15e9;
/** What an environment writes into its data directory without being asked: records, gates, audit, certificates. */
const recordBytes = 100e6;
/** An image with Python and PyTorch has some fifty thousand files. */
const leastInodes = 100_000;
/** A process that serves on the CPU, and one with PyTorch and CUDA beside it, both without their models; estimates, MiB. */
const serviceMiB = 1024;
const gpuServiceMiB = 2560;
const mebibyte = 2 ** 20;
/** Records and logs are hard to read beyond this, certificates and registries fail beyond that. */
const goodSkewMs = 2000;
const worstSkewMs = 300_000;

/** Who we are on the node, and whether it could be asked. */
export function checkAccess({ access, incomplete, hanging }: NodeFacts): DoctorFinding[] {
  const name = access.user.seen ? access.user.value.name : "this user";
  const findings: DoctorFinding[] = [];
  if (access.root.by === "none") {
    // Who may talk to the engine is not enough: records, gates and files of secrets belong to root, and are read and written as root.
    const because = `${access.root.because}; plan, deploy and status read and write what belongs to root, also where Docker takes ${name}`;
    const next = rootSteps(access);
    findings.push(blocker("machine", "no-root", `${name} is not root and has no passwordless sudo`, because, next));
  } else
    findings.push(ok("machine", "access", `logged in as ${name}${access.root.by === "sudo" ? ", with passwordless sudo" : ""}`));
  if (incomplete !== null) {
    const next = ["run it again", "ssh to the node and type: sh -c 'echo ok', which must print nothing else"];
    findings.push(warning("machine", "probes-incomplete", "not everything could be asked", incomplete, next));
  }
  if (hanging.length > 0) {
    const because = "a tool that never answers makes a deploy wait for it too";
    const next = ["uptime; df -h; dmesg | tail", "restart what hangs, then run it again"];
    findings.push(warning("machine", "probes-hang", `no answer in time: ${hanging.join(", ")}`, because, next));
  }
  return findings;
}

const architectures: ReadonlySet<string> = new Set(["x86_64", "aarch64"]);

export function checkNodeSystem(facts: Pick<NodeFacts, "system">): DoctorFinding[] {
  if (!facts.system.seen) {
    return [warning("machine", "system-unknown", "the system cannot be told", facts.system.because, ["uname -a"])];
  }
  const system = facts.system.value;
  const what = `${system.distribution ?? system.name}, kernel ${system.kernel}, ${system.architecture}`;
  if (system.name !== "Linux") {
    return [blocker("machine", "system-unsupported", what, "nodes need Linux and Docker Engine", ["use a Linux host"])];
  }
  if (!architectures.has(system.architecture)) {
    const because = "there are service images for x86_64 and aarch64";
    return [blocker("machine", "architecture-unsupported", what, because, ["use another host"])];
  }
  return [ok("machine", "system", what), ...checkWsl(system)];
}

function checkWsl({ wsl }: NodeSystem): DoctorFinding[] {
  if (wsl === 2) return [ok("machine", "wsl2", "Windows Subsystem for Linux 2: the GPU driver is that of Windows")];
  if (wsl === null) return [];
  const because = "WSL 1 has no Linux kernel: no GPU, no containers";
  return [
    blocker("machine", "wsl1", "Windows Subsystem for Linux 1", because, ["in PowerShell: wsl --set-version <distribution> 2"]),
  ];
}

export function checkClock({ clock, access, system }: NodeFacts): DoctorFinding {
  const next = [`${commandsFor({ access, system }).sudo}timedatectl set-ntp true`, "timedatectl status"];
  if (!clock.seen) return warning("machine", "clock-unknown", "the clock cannot be read", clock.because, ["date"]);
  const { skewMs, boundMs, synchronised } = clock.value;
  const certain = Math.max(0, Math.abs(skewMs) - boundMs);
  const what = `clock ${Math.abs(skewMs) <= boundMs ? "equal to ours" : describeSkew(skewMs)}, to within ${seconds(boundMs)}`;
  if (certain > worstSkewMs) {
    const because = "certificates and registries are refused with a clock this wrong";
    return blocker("machine", "clock-wrong", what, because, next);
  }
  if (certain > goodSkewMs) {
    return warning("machine", "clock-skew", what, "times in logs and records of several machines cannot be compared", next);
  }
  if (synchronised === false) {
    return warning("machine", "clock-unsynchronised", what, "no time service keeps it so", next);
  }
  return ok("machine", "clock", what);
}

const describeSkew = (skewMs: number): string => `${seconds(Math.abs(skewMs))} ${skewMs > 0 ? "ahead of" : "behind"} ours`;
const seconds = (duration: number): string => (duration < 1000 ? `${duration} ms` : `${(duration / 1000).toFixed(1)} s`);

export function checkNodeMemory({ memory }: Pick<NodeFacts, "memory">, { services }: NodeNeeds): DoctorFinding {
  if (!memory.seen) return warning("machine", "memory-unknown", "memory cannot be read", memory.because, ["free -h"]);
  const { totalMiB, availableMiB } = memory.value;
  const needed = services.reduce((sum, service) => sum + memoryOf(service), 0);
  const what = `${gib(availableMiB)} of ${gib(totalMiB)} memory available`;
  if (availableMiB >= needed) return ok("machine", "memory", what);
  const copies = services.some(({ cpuFallback }) => cpuFallback);
  const next = [
    "free -h, then end what is not needed",
    ...(copies ? ["or in gpuctl.yaml without fallback: cpu, which keeps a second copy of a model in memory"] : []),
    "or a smaller model, or use a host with more memory",
  ];
  // What runs already may be this environment itself; whether a candidate fits is decided right before it starts.
  const level = totalMiB < needed ? blocker : warning;
  return level("machine", "memory-low", what, whyMemory(services, needed), next);
}

/**
 * MiB of one service: its process and its models, which pass through memory on their way to a GPU as well, and all of that once more
 * where an instance stands behind it on the CPU. Beside an instance that runs, it is what the candidate of an overlap needs.
 */
function memoryOf(service: ServiceNeeds): number {
  const models = (service.modelBytes ?? 0) / mebibyte;
  const own = (wantsGpu(service) ? gpuServiceMiB : serviceMiB) + models;
  return own + (service.cpuFallback ? serviceMiB + models : 0);
}

function whyMemory(services: readonly ServiceNeeds[], needed: number): string {
  const unknown = services.some(({ modelBytes }) => modelBytes === null);
  const doubled = services.filter(({ cpuFallback }) => cpuFallback);
  const models = doubled.length === 0 ? "their models" : `their models, those of ${names(doubled)} twice for fallback: cpu`;
  const rest = unknown ? "; a model whose size is not known is not counted" : "";
  const who = services.length === 1 ? "1 service needs" : `${services.length} services need`;
  return `${who} about ${gib(needed)} beside what runs now: processes and ${models}${rest}`;
}

interface Place {
  label: string;
  room: Room;
  need: number | null;
  /** Whether images pass through it on their way, sent from here. */
  passage: boolean;
}

/** Room for images and models, which are volumes of Docker; for records; and whether the data directory can be made and written. */
export function checkDisks(facts: NodeFacts, needs: NodeNeeds): DoctorFinding[] {
  const { docker, dataDisk } = facts;
  const images: Seen<Room> | null = docker.state === "reachable" ? docker.disk : null;
  const places: Place[] = [];
  const { imageBytes, sentBytes, modelBytes } = needs;
  const brought = imageBytes === null || modelBytes === null ? null : imageBytes + modelBytes;
  if (images?.seen === true) places.push({ label: "images and models", room: images.value, need: brought, passage: false });
  const records = sentBytes === null ? null : recordBytes + sentBytes;
  if (dataDisk.seen) places.push({ label: "records", room: dataDisk.value, need: records, passage: sentBytes !== 0 });
  const unknown = [images?.seen === false ? images : null, dataDisk.seen ? null : dataDisk].filter((place) => place !== null);
  return [
    ...unknown.map(({ because }) => warning("storage", "disk-unknown", "free disk space cannot be read", because, ["df -h"])),
    ...merged(places).flatMap((place) => checkPlace(place, needs)),
    ...checkDataDirectory(facts, needs),
  ];
}

function merged(places: readonly Place[]): readonly Place[] {
  const [first, second] = places;
  if (first === undefined || second?.room.device !== first.room.device) return places;
  const need = first.need === null || second.need === null ? null : first.need + second.need;
  return [{ label: "images, models and records", room: first.room, need, passage: second.passage }];
}

function checkPlace({ label, room, need, passage }: Place, { dataDirectory }: NodeNeeds): DoctorFinding[] {
  const free = `${room.path}: ${gigabytes(room.freeBytes)} free`;
  const wanted = need === null ? unknownBytes : need * spare;
  const next = [`df -h ${room.path}`, "docker system df", "gpuctl prune"];
  const findings: DoctorFinding[] = [];
  if (room.freeBytes >= wanted) findings.push(ok("storage", "disk", `${free} for ${label}`));
  else if (need === null) {
    const because = `nobody knows yet how much is to be brought; ${gigabytes(unknownBytes)} are enough for most`;
    findings.push(warning("storage", "disk-low", `${free} for ${label}`, because, next));
  } else {
    const way = passage ? `, with what is sent without a registry and waits for Docker in ${dataDirectory}/.incoming` : "";
    const because = `${gigabytes(need)} are to be brought${way}, and a fifth more is kept for unpacking, logs and records`;
    const shorter = passage ? ["or in gpuctl.yaml: registry: { server: ADDRESS }, so that images come without this detour"] : [];
    findings.push(blocker("storage", "disk-full", `${free} for ${label}`, because, [...next, ...shorter]));
  }
  if (room.freeInodes !== null && room.freeInodes < leastInodes) {
    const because = "an image has some ten thousand files";
    const inodes = [`df -i ${room.path}`, "gpuctl prune"];
    findings.push(warning("storage", "inodes-low", `${room.path}: ${room.freeInodes} files can still be made`, because, inodes));
  }
  return findings;
}

function checkDataDirectory({ dataDisk, access, system }: NodeFacts, { dataDirectory }: NodeNeeds): DoctorFinding[] {
  if (!dataDisk.seen) return [];
  const { sudo } = commandsFor({ access, system });
  const { folder, writable, path } = dataDisk.value;
  const elsewhere = "or in gpuctl.yaml: dataDirectory: /another/folder";
  if (!folder) {
    const because = `${path} is a file`;
    return [blocker("storage", "data-not-writable", `${dataDirectory} cannot be made`, because, [`ls -l ${path}`, elsewhere])];
  }
  if (writable && isThere(path, dataDirectory)) return [ok("storage", "data-directory", `${dataDirectory} can be written`)];
  if (writable) return [ok("storage", "data-directory-missing", `${dataDirectory} is not there yet and can be made`)];
  const user = access.user.seen ? access.user.value.name : "USER";
  const because = `${path} is not this user's to write, or is mounted read-only`;
  const next = [`${sudo}install -d -m 0750 -o ${user} ${dataDirectory}`, elsewhere];
  return [blocker("storage", "data-not-writable", `${dataDirectory} cannot be written`, because, next)];
}

/** Whether the nearest folder that exists is the one that was asked for. */
export const isThere = (existing: string, wanted: string): boolean =>
  existing === wanted.replace(/(?<=.)\/+$/, "") || existing === wanted;

const gib = (mebibytes: number): string => `${(mebibytes / 1024).toFixed(1)} GiB`;
const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;
