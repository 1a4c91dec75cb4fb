import { ok, warning, type DoctorFinding } from "../doctor/finding.js";
import { cdiDeviceFor, cdiDevices } from "./cdi-device.js";
import { commandsFor } from "./commands.js";
import type { CdiSpec, NodeFacts, XidEvent } from "./facts.js";
import { levelFor, names, wantsGpu, type NodeNeeds, type Raise, type ServiceNeeds } from "./needs.js";

/** The driver's three versions, what the kernel said of it, and what may change it; only where a GPU is wanted and answers. */
export function checkDriver(facts: NodeFacts, needs: NodeNeeds): DoctorFinding[] {
  const wanting = needs.services.filter(wantsGpu);
  if (wanting.length === 0) return [];
  const wsl = facts.system.seen && facts.system.value.wsl === 2;
  const answers = facts.smi.state === "gpus";
  return [
    ...(answers && !wsl ? checkVersions(facts, levelFor(wanting)) : []),
    ...checkXids(facts),
    ...(wsl ? [] : [...checkUnifiedMemory(facts), ...checkPersistence(facts), ...checkHolds(facts), ...checkRestart(facts)]),
  ];
}

/** Loaded module, module on disk and libraries are one set: any difference breaks new containers now, or after the next boot. */
function checkVersions(facts: NodeFacts, level: Raise): DoctorFinding[] {
  const { loaded, onDisk, library, secureBoot } = facts.driver;
  const { sudo } = commandsFor(facts);
  if (!loaded.seen) return [];
  if (library.seen && library.value !== loaded.value) {
    const because = `the kernel module is ${loaded.value} and the libraries are ${library.value}: what runs goes on, but no new container can use the GPU`;
    const what = "the NVIDIA driver was upgraded and the machine not restarted";
    return [level("GPU", "driver-mismatch", what, because, [`${sudo}reboot`])];
  }
  if (onDisk.seen && onDisk.value !== loaded.value) {
    const because = `the kernel module is ${loaded.value} now and will be ${onDisk.value} after the next boot, with libraries ${library.seen ? library.value : "unknown"}`;
    const next = [
      "dpkg -l | grep -E 'nvidia-(utils|compute|kernel)|linux-modules-nvidia'",
      `${sudo}reboot, at a time of your choosing`,
    ];
    return [warning("GPU", "driver-pending", "the next boot changes the NVIDIA driver", because, next)];
  }
  const signed = secureBoot.seen && secureBoot.value ? ", Secure Boot on" : "";
  const equal = [onDisk.seen ? "module on disk" : null, library.seen ? "libraries" : null].filter((part) => part !== null);
  const what = `NVIDIA driver ${loaded.value}: kernel module${equal.length > 0 ? ` equal to ${equal.join(" and ")}` : ""}${signed}`;
  return [ok("GPU", "driver", what)];
}

/** Xid codes that are the application's fault, by NVIDIA's catalogue: the card is well. */
const harmless: ReadonlySet<number> = new Set([13, 31, 43, 45, 68, 69]);

function checkXids(facts: NodeFacts): DoctorFinding[] {
  const { xids } = facts.driver;
  const { sudo } = commandsFor(facts);
  if (!xids.seen) {
    const next = [`sudo dmesg | grep -i xid`];
    return [warning("GPU", "kernel-log-unknown", "errors of the GPU cannot be read", xids.because, next)];
  }
  const serious = xids.value.filter(({ code }) => !harmless.has(code));
  if (serious.length > 0) {
    const next = [`${sudo}dmesg | grep -i xid`, "nvidia-smi -q -d ECC,PAGE_RETIREMENT,ROW_REMAPPER", `${sudo}reboot`];
    return [warning("GPU", "gpu-xid", `${describeXids(serious)} since boot`, lastText(serious), next)];
  }
  if (xids.value.length === 0) return [ok("GPU", "kernel-log", "no GPU errors in the kernel log")];
  return [ok("GPU", "kernel-log", `no GPU errors but those of applications in the kernel log (${describeXids(xids.value)})`)];
}

const describeXids = (events: readonly XidEvent[]): string =>
  `${events.length} GPU ${events.length === 1 ? "error" : "errors"}: Xid ${[...new Set(events.map(({ code }) => code))].join(", ")}`;

function lastText(events: readonly XidEvent[]): string {
  const last = events.at(-1);
  return last === undefined ? "" : `the last, of ${last.bus}: ${last.text}`.replace(/\.$/, "");
}

/** The module is loaded by the first who uses CUDA on the host itself; a container by CDI only finds that its device node is missing. */
function checkUnifiedMemory(facts: NodeFacts): DoctorFinding[] {
  if (facts.driver.uvm !== false || facts.smi.state !== "gpus") return [];
  const { sudo } = commandsFor(facts);
  const because =
    "CUDA needs nvidia_uvm and /dev/nvidia-uvm; a specification that names that device lets no container start without it";
  const next = [
    `${sudo}nvidia-modprobe -u -c 0`,
    `for every boot: echo nvidia_uvm | ${sudo}tee /etc/modules-load.d/nvidia-uvm.conf`,
  ];
  return [warning("GPU", "uvm-missing", "the driver's module for unified memory is not loaded", because, next)];
}

/** A kernel or driver that waits for a restart comes with it, wanted or not. */
function checkRestart({ driver, access, system }: NodeFacts): DoctorFinding[] {
  const waiting = (driver.rebootPending?.packages ?? []).filter((name) => /^linux-(?:image|base|modules)|nvidia/.test(name));
  if (waiting.length === 0) return [];
  const because = `${waiting.join(", ")} ${waiting.length === 1 ? "takes" : "take"} effect then: containers of now may not start again with them`;
  const next = [`${commandsFor({ access, system }).sudo}reboot, at a time of your choosing, then: gpuctl doctor`];
  return [warning("GPU", "reboot-pending", "the machine is to be restarted", because, next)];
}

/** Without persistence the driver lets go of an idle card: the next start waits seconds, and settings are lost. */
function checkPersistence({ smi, access, system }: NodeFacts): DoctorFinding[] {
  if (smi.state !== "gpus") return [];
  const off = smi.gpus.filter(({ persistence }) => persistence === false);
  if (off.length === 0) return [ok("GPU", "persistence", "persistence mode is on")];
  const because = "an idle card is let go, so that every first use waits for the driver";
  const { sudo } = commandsFor({ access, system });
  const next = [`${sudo}systemctl enable --now nvidia-persistenced`, `or until the next boot: ${sudo}nvidia-smi -pm 1`];
  const label = off.map(({ index }) => `GPU ${index}`).join(", ");
  return [warning("GPU", "persistence-off", `persistence mode is off: ${label}`, because, next)];
}

/** Driver packages that the next upgrade, by hand or unattended, would replace under running containers. */
export function unheldPackages({ upkeep }: Pick<NodeFacts, "upkeep">): readonly string[] {
  const { driverPackages, held } = upkeep;
  if (!driverPackages.seen || !held.seen) return [];
  const holding = new Set(held.value);
  return driverPackages.value.filter((name) => !holding.has(name));
}

function checkHolds(facts: NodeFacts): DoctorFinding[] {
  const { driverPackages, held, unattended } = facts.upkeep;
  if (!driverPackages.seen || !held.seen || driverPackages.value.length === 0) return [];
  const { sudo } = commandsFor(facts);
  const unheld = unheldPackages(facts);
  const count = `${driverPackages.value.length} driver packages`;
  if (unheld.length === 0) return [ok("GPU", "driver-held", `${count} are held`)];
  const next = [`${sudo}apt-mark hold ${unheld.join(" ")}`];
  const blacklist = unattended.seen ? (unattended.value?.blacklist ?? null) : null;
  const guarded = blacklist === null ? [] : unheld.filter((name) => blacklist.some((pattern) => covers(pattern, name)));
  if (blacklist !== null && guarded.length === unheld.length) {
    return [ok("GPU", "driver-held", `${count} are held, or never upgraded unattended`)];
  }
  const because =
    blacklist === null
      ? "the next upgrade of packages replaces the driver under running containers: no new one can start until the machine is restarted"
      : "unattended-upgrades will replace the driver under running containers: no new one can start until the machine is restarted";
  return [warning("GPU", "driver-not-held", `${unheld.length} of ${count} are not held`, because, next)];
}

/** Patterns of unattended-upgrades are regular expressions anchored at the start; only plain ones are understood, others count as none. */
function covers(pattern: string, name: string): boolean {
  const plain = /^\^?([a-z0-9+.-]+?)(?:\.\*)?(\$?)$/.exec(pattern);
  if (plain === null) return false;
  const [, prefix = "", exact] = plain;
  return exact === "$" && !pattern.endsWith(".*$") ? name === prefix : name.startsWith(prefix);
}

/** The container toolkit and its CDI specification: made for this driver, whole, and naming the GPUs that services reserve. */
export function checkToolkit(facts: NodeFacts, needs: NodeNeeds): DoctorFinding[] {
  const wanting = needs.services.filter(wantsGpu);
  if (wanting.length === 0) return [];
  const level = levelFor(wanting);
  const { toolkit } = facts;
  const { installToolkit, sudo } = commandsFor(facts);
  const generate = `${sudo}nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`;
  const findings: DoctorFinding[] = [];
  if (toolkit.version.seen) findings.push(ok("GPU", "container-toolkit", `NVIDIA Container Toolkit ${toolkit.version.value}`));
  else {
    const because = `${toolkit.version.because}; it writes the CDI specification by which containers get GPUs`;
    const missing = toolkit.specs.seen && toolkit.specs.value.length > 0 ? warning : level;
    findings.push(
      missing("GPU", "container-toolkit-missing", "no NVIDIA Container Toolkit", because, [...installToolkit, generate]),
    );
  }
  if (!toolkit.specs.seen) {
    findings.push(
      warning("GPU", "cdi-unknown", "CDI specifications cannot be read", toolkit.specs.because, ["ls -l /etc/cdi /var/run/cdi"]),
    );
    return findings;
  }
  const specs = toolkit.specs.value;
  if (specs.length === 0) {
    const because = `neither /etc/cdi nor /var/run/cdi has one for nvidia.com/gpu, and ${names(wanting)} wants a GPU`;
    return [...findings, level("GPU", "cdi-spec-missing", "no CDI specification of NVIDIA GPUs", because, [generate])];
  }
  const inForce = specs.filter((spec) => !isShadowed(spec, specs));
  return [
    ...findings,
    ...inForce.flatMap((spec) => checkSpec(spec, facts, generate, level)),
    ...checkDevices(facts, wanting, generate),
  ];
}

/** /var/run/cdi goes before /etc/cdi, device by device: an old file in the latter does no harm. */
function isShadowed(spec: CdiSpec, specs: readonly CdiSpec[]): boolean {
  const fresh = new Set(specs.filter(({ path }) => path.startsWith("/var/run/cdi/")).flatMap(({ devices }) => devices));
  return spec.path.startsWith("/etc/cdi/") && spec.devices.length > 0 && spec.devices.every((device) => fresh.has(device));
}

function checkSpec(spec: CdiSpec, facts: NodeFacts, generate: string, level: Raise): DoctorFinding[] {
  const { driver } = facts;
  const { sudo } = commandsFor(facts);
  const again = spec.path.startsWith("/var/run/cdi/") ? `${sudo}systemctl restart nvidia-cdi-refresh` : generate;
  if (spec.missingHooks.length > 0) {
    const because = `${spec.path} starts ${spec.missingHooks.join(" and ")}, which is not there`;
    return [level("GPU", "cdi-hook-missing", "the CDI specification names a program that is missing", because, [again])];
  }
  // One that fits the libraries of an upgrade will be right after the restart that the upgrade wants anyway.
  const upgraded = driver.library.seen && driver.library.value === spec.driver;
  if (spec.driver !== null && driver.loaded.seen && spec.driver !== driver.loaded.value && !upgraded) {
    const because = `${spec.path} was made for driver ${spec.driver}, and ${driver.loaded.value} is loaded: its libraries are not there, so no container starts`;
    return [level("GPU", "cdi-spec-stale", "the CDI specification is that of another driver", because, [again])];
  }
  return [];
}

function checkDevices(facts: NodeFacts, wanting: readonly ServiceNeeds[], generate: string): DoctorFinding[] {
  const devices = cdiDevices(facts);
  const missing = wanting.filter(({ gpu }) => cdiDeviceFor(facts, gpu) === null);
  if (missing.length === 0) return [ok("GPU", "cdi-devices", `CDI devices: ${devices.join(", ")}`)];
  const wanted = [...new Set(missing.map(({ gpu }) => gpu ?? "all GPUs"))].join(" and ");
  const listed = facts.docker.state === "reachable" && facts.docker.cdiDevices !== null;
  const because = `${listed ? "Docker lists" : "the specifications name"} ${devices.length === 0 ? "none" : devices.join(", ")}`;
  return [
    levelFor(missing)("GPU", "cdi-device-missing", `no CDI device for ${wanted}`, because, [generate, "nvidia-ctk cdi list"]),
  ];
}
