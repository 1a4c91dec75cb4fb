import { kernelModule } from "../doctor/linux-files.js";
import { readNvidiaSmi, type NvidiaSmi, type SmiOutput } from "../nvidia-smi.js";
import type { Answer, Answers } from "./answers.js";
import {
  seen,
  unseen,
  type CdiSpec,
  type GpuProcess,
  type NodeDriver,
  type NodeToolkit,
  type Seen,
  type Upkeep,
  type XidEvent,
} from "./facts.js";
import { lines, stdoutOf } from "./read-machine.js";

export function readDriver(answers: Answers): NodeDriver {
  const modules = stdoutOf(answers.of("modules"), "/proc/modules");
  const log = stdoutOf(answers.of("kernel-log"), "dmesg");
  const present = modules.seen ? lines(modules.value) : [];
  return {
    loaded: parsed(answers.of("module"), "the kernel module", "its version cannot be read", kernelModule),
    onDisk: parsed(answers.of("module-disk"), "modinfo", "it says no version", (text) => version(lines(text)[0] ?? "")),
    library: readLibrary(answers.of("library")),
    nouveau: present.includes("nouveau"),
    uvm: present.includes("nvidia") ? present.includes("nvidia_uvm") : null,
    pciDevices: parsed(answers.of("pci"), "the PCI bus", "it cannot be read", (text) =>
      /^\d{1,4}$/.test(text.trim()) ? Number(text) : null,
    ),
    secureBoot: parsed(answers.of("secure-boot"), "Secure Boot", "the firmware does not say", secureBoot),
    signatureRefused: log.seen && /Key was rejected by service/i.test(log.value),
    xids: log.seen ? seen(lines(log.value).flatMap(xidEvent)) : log,
    rebootPending: readReboot(answers.of("reboot-required")),
  };
}

function parsed<T>(answer: Answer, tool: string, otherwise: string, read: (text: string) => T | null): Seen<T> {
  const said = stdoutOf(answer, tool);
  if (!said.seen) return said;
  const value = read(said.value);
  return value === null ? unseen(otherwise) : seen(value);
}

const version = (text: string): string | null => /^\d+\.\d+(?:\.\d+)?$/.exec(text.trim())?.[0] ?? null;

/** More than one version is said as it is: it will equal nothing. */
function readLibrary(answer: Answer): Seen<string> {
  const said = stdoutOf(answer, "ldconfig");
  if (!said.seen) return said;
  const files = lines(said.value);
  if (files.length === 0) return unseen("libnvidia-ml is not installed");
  const versions = new Set(files.flatMap((file) => /libnvidia-ml\.so\.(\d+\.\d+(?:\.\d+)?)$/.exec(file)?.[1] ?? []));
  return versions.size === 0 ? unseen("libnvidia-ml has no version in its name") : seen([...versions].join(" and "));
}

/** mokutil's words, `no EFI`, or the bytes of the firmware's variable, of which the last is the value. */
function secureBoot(text: string): boolean | null {
  if (/SecureBoot enabled/i.test(text)) return true;
  if (/SecureBoot disabled|no EFI|not supported/i.test(text)) return false;
  const bytes = text.trim().split(/\s+/);
  if (!bytes.every((byte) => /^\d{1,3}$/.test(byte))) return null;
  return bytes.at(-1) === "1";
}

/** `[  812.51] NVRM: Xid (PCI:0000:65:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.` */
function xidEvent(line: string): XidEvent[] {
  const match = /NVRM: Xid \(([^)]{1,40})\): (\d{1,3}),?\s*(.*)$/.exec(line);
  return match === null ? [] : [{ bus: match[1] ?? "", code: Number(match[2]), text: (match[3] ?? "").slice(0, 200) }];
}

function readReboot(answer: Answer): NodeDriver["rebootPending"] {
  const said = stdoutOf(answer, "reboot-required");
  return said.seen ? { packages: [...new Set(lines(said.value))] } : null;
}

export function readToolkit(answers: Answers): NodeToolkit {
  const specs = stdoutOf(answers.of("cdi-files"), "sh");
  return {
    version: parsed(
      answers.of("toolkit"),
      "nvidia-ctk",
      "it says no version",
      (text) => /version v?(\d+\.\d+\.\d+\S*)/.exec(text)?.[1] ?? null,
    ),
    specs: specs.seen ? seen(readSpecs(specs.value)) : specs,
  };
}

/** `file EPOCH PATH`, then its words, indented by two. */
function readSpecs(text: string): CdiSpec[] {
  return text
    .split(/^(?=file )/m)
    .map(readSpec)
    .filter((spec) => spec !== null)
    .filter(({ kind }) => kind === "nvidia.com/gpu");
}

function readSpec(text: string): CdiSpec | null {
  const [head = "", ...body] = text.split("\n");
  const file = /^file (\d{1,12}|) ?(\/.*)$/.exec(head);
  if (file === null) return null;
  const found = (pattern: RegExp): string[] => body.flatMap((line) => pattern.exec(line)?.[1] ?? []);
  const kind = found(/^ {2}"?kind"?: *"?([^"]+)$/)[0] ?? "";
  const drivers = new Set(found(/^ {2}(?:host-driver-version=|lib(?:cuda|nvidia-ml)\.so\.)(\d+\.\d+(?:\.\d+)?)$/));
  return {
    path: file[2] ?? "",
    changed: file[1] === "" ? null : Number(file[1]),
    kind,
    devices: found(/^ {2}"?name"?: *"?([^"]+)$/).map((name) => `${kind}=${name}`),
    driver: drivers.size === 0 ? null : [...drivers].join(" and "),
    missingHooks: found(/^ {2}no-hook (.+)$/),
  };
}

export function readSmi(answers: Answers): NvidiaSmi {
  const query = answers.of("smi-query");
  if (query.state === "hangs") return { state: "hangs", seconds: 10 };
  if (query.state === "missing") return { state: "failed", detail: query.because };
  if (query.code === 127) return { state: "absent" };
  const list = answers.of("smi-list");
  return readNvidiaSmi(smiOutput(query), list.state === "answered" ? smiOutput(list) : null);
}

const smiOutput = ({ code, stdout, stderr }: SmiOutput & { state: "answered" }): SmiOutput => ({ code, stdout, stderr });

/** `GPU-…, 4242, 1875, /usr/bin/python3`; `[N/A]` and `[Insufficient Permissions]` where the driver does not say. */
export function readGpuProcesses(answers: Answers): Seen<GpuProcess[]> {
  const apps = stdoutOf(answers.of("smi-apps"), "nvidia-smi");
  if (!apps.seen) return apps;
  const owners = readOwners(answers.of("gpu-owners"));
  return seen(
    lines(apps.value).flatMap((line) => {
      const match = /^((?:GPU|MIG)-[^,]+),\s*([^,]+),\s*([^,]+),\s*(.*)$/.exec(line);
      if (match === null) return [];
      const [gpu = "", pid, used, name = ""] = match.slice(1);
      const number = (cell: string | undefined): number | null => (/^\d{1,9}$/.test(cell ?? "") ? Number(cell) : null);
      const owner = owners.get(number(pid) ?? -1);
      return [{ gpu, pid: number(pid), usedMiB: number(used), name: owner?.name || name, container: owner?.container ?? null }];
    }),
  );
}

/** `pid 4242 python3`, then the lines of its cgroup file; Docker's cgroups end with the container's id. */
function readOwners(answer: Answer): Map<number, { name: string; container: string | null }> {
  const said = stdoutOf(answer, "sh");
  const owners = new Map<number, { name: string; container: string | null }>();
  for (const block of said.seen ? said.value.split(/^(?=pid )/m) : []) {
    const head = /^pid (\d{1,9}) ?(.*)$/m.exec(block);
    if (head === null) continue;
    owners.set(Number(head[1]), { name: head[2] ?? "", container: /[/-]([0-9a-f]{64})(?:\.scope)?$/m.exec(block)?.[1] ?? null });
  }
  return owners;
}

/** Packages that make up the driver. Those of the container toolkit may be upgraded at any time. */
const driverPackage = /^(?:lib)?nvidia-(?!container|docker|ctk|fs|modprobe$)|^linux-(?:modules|objects|signatures)-nvidia-/;

export function readUpkeep(answers: Answers): Upkeep {
  const packages = stdoutOf(answers.of("packages"), "dpkg-query");
  const holds = stdoutOf(answers.of("holds"), "apt-mark");
  if (!packages.seen)
    return { driverPackages: packages, held: holds.seen ? seen(lines(holds.value)) : holds, unattended: packages };
  const installed = lines(packages.value).flatMap((line) => /^.i.?.?\|([a-z0-9][a-z0-9+.-]+)\|/.exec(line)?.[1] ?? []);
  return {
    driverPackages: seen(installed.filter((name) => driverPackage.test(name))),
    held: holds.seen ? seen(lines(holds.value)) : holds,
    unattended: readUnattended(answers.of("unattended"), installed.includes("unattended-upgrades")),
  };
}

function readUnattended(answer: Answer, installed: boolean): Upkeep["unattended"] {
  if (!installed) return seen(null);
  const said = stdoutOf(answer, "apt-config");
  if (!said.seen) return said;
  if (!/^APT::Periodic::Unattended-Upgrade "[1-9]/m.test(said.value)) return seen(null);
  const patterns = said.value.matchAll(/^Unattended-Upgrade::Package-Blacklist:: "([^"]+)";$/gm);
  return seen({ blacklist: [...patterns].map((match) => match[1] ?? "") });
}
