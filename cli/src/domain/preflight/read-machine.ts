import { distributionName, wslVersion } from "../doctor/linux-files.js";
import type { Answer, Answers } from "./answers.js";
import { seen, unseen, type Access, type DataDisk, type NodeClock, type NodeSystem, type Room, type Seen } from "./facts.js";

/** Our clock around the moment in which the node read its own, epoch milliseconds. */
export interface ClockReading {
  asked: number;
  answered: number;
}

/** Stdout of a probe that succeeded, or why there is none: the tool's last line, or that it is missing. */
export function stdoutOf(answer: Answer, tool: string): Seen<string> {
  if (answer.state === "missing") return unseen(answer.because);
  if (answer.state === "hangs") return unseen(`${tool} did not answer in time`);
  if (answer.code === 0) return seen(answer.stdout.replaceAll("\r", ""));
  if (answer.code === 127) return unseen(`${tool} is not installed`);
  if (answer.code === 126) return unseen(`${tool} cannot be run by this user`);
  const said = lastLine(answer.stderr) || lastLine(answer.stdout);
  return unseen(said === "" ? `${tool} ended with status ${answer.code}` : said);
}

/** The last line that says something, without control characters. */
export function lastLine(text: string): string {
  const lines = text.split(/[\r\n]+/).map((line) => line.replaceAll(/\p{Cc}/gu, " ").trim());
  return (lines.filter((line) => line !== "").at(-1) ?? "").slice(0, 240).replace(/\.$/, "");
}

export const lines = (text: string): string[] =>
  text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== "");

export function readAccess(answers: Answers): Access {
  const identity = stdoutOf(answers.of("identity"), "id");
  const [uid, name, groups] = identity.seen ? identity.value.split("\n") : [];
  const known = uid !== undefined && /^\d+$/.test(uid) && name !== undefined && name !== "";
  const because = identity.seen ? "id says nothing of use" : identity.because;
  const user: Access["user"] = known
    ? seen({ name, uid: Number(uid), groups: (groups ?? "").split(" ").filter((group) => group !== "") })
    : unseen(because);
  if (user.seen && user.value.uid === 0) return { user, root: { by: "login" } };
  const sudo = stdoutOf(answers.of("sudo"), "sudo");
  return { user, root: sudo.seen ? { by: "sudo" } : { by: "none", because: sudo.because } };
}

export function readSystem(answers: Answers): Seen<NodeSystem> {
  const kernel = stdoutOf(answers.of("kernel"), "uname");
  if (!kernel.seen) return kernel;
  const [name, release, architecture, ...version] = kernel.value.split("\n");
  if (!name || !release || !architecture) return unseen("uname says nothing of use");
  const os = stdoutOf(answers.of("os-release"), "os-release");
  const text = os.seen ? os.value : "";
  const field = (key: string): string | null => new RegExp(`^${key}=["']?([^"'\\n]*)["']?$`, "m").exec(text)?.[1] ?? null;
  const families = `${field("ID") ?? ""} ${field("ID_LIKE") ?? ""}`.split(" ").filter((family) => family !== "");
  return seen({
    distribution: distributionName(text),
    families,
    versionId: field("VERSION_ID"),
    name,
    kernel: release,
    architecture,
    wsl: wslVersion(version.join("\n")),
  });
}

export function readMemory(answers: Answers): Seen<{ totalMiB: number; availableMiB: number }> {
  const meminfo = stdoutOf(answers.of("memory"), "/proc/meminfo");
  if (!meminfo.seen) return meminfo;
  const mebibytes = (field: string): number | null => {
    const kibibytes = new RegExp(`^${field}:\\s+(\\d{1,15}) kB$`, "m").exec(meminfo.value)?.[1];
    return kibibytes === undefined ? null : Math.floor(Number(kibibytes) / 1024);
  };
  const [total, available] = [mebibytes("MemTotal"), mebibytes("MemAvailable") ?? mebibytes("MemFree")];
  if (total === null || available === null) return unseen("/proc/meminfo says nothing of use");
  return seen({ totalMiB: total, availableMiB: available });
}

/**
 * The node's clock against ours: it was read somewhere between the two moments of ours, so the difference is known to within half of
 * that time, and half of what the node's `date` rounds away (a second, where it knows no fractions).
 */
export function readClock(answers: Answers, ours: ClockReading): Seen<NodeClock> {
  const date = stdoutOf(answers.of("clock"), "date");
  if (!date.seen) return date;
  const read = /^(\d{1,12})(?:[.,](\d{1,9})?[^\d]*)?$/.exec(date.value.trim());
  if (read === null) return unseen("date says nothing of use");
  const [, whole, fraction] = read;
  const resolution = fraction === undefined ? 1000 : Math.max(1, 1000 / 10 ** fraction.length);
  const theirs = Number(`${whole ?? ""}.${fraction ?? "0"}`) * 1000 + (fraction === undefined ? 500 : 0);
  const halfTrip = Math.max(0, ours.answered - ours.asked) / 2;
  return seen({
    skewMs: Math.round(theirs - (ours.asked + halfTrip)),
    boundMs: Math.ceil(halfTrip + resolution / 2),
    synchronised: readSynchronised(answers.of("synchronised")),
  });
}

function readSynchronised(answer: Answer): boolean | null {
  const value = answer.state === "answered" ? /NTPSynchronized=(yes|no)/.exec(answer.stdout)?.[1] : undefined;
  return value === undefined ? null : value === "yes";
}

export function readDataDisk(answers: Answers): Seen<DataDisk> {
  const answer = stdoutOf(answers.of("data-disk"), "df");
  if (!answer.seen) return answer;
  const [kind, rights, blocks, inodes, ...path] = answer.value.split("\n");
  const room = readRoom(path.join("\n").replace(/\n$/, ""), blocks, inodes);
  if (room === null) return unseen("df says nothing of use");
  return seen({ ...room, folder: kind === "folder", writable: rights === "writable" });
}

/** `df -P` prints one line a file system: device, total, used, available, percentage, mount point. The device may contain spaces. */
export function readRoom(path: string, blocks: string | undefined, inodes: string | undefined): Room | null {
  const sizes = dfLine(blocks);
  if (sizes?.total == null || sizes.free === null) return null;
  const numbers = dfLine(inodes);
  // btrfs and others make inodes as they need them, and say 0 of 0.
  const fixed = numbers !== null && numbers.total !== null && numbers.total > 0;
  return {
    path,
    freeBytes: sizes.free * 1024,
    totalBytes: sizes.total * 1024,
    freeInodes: fixed ? numbers.free : null,
    device: `${sizes.device} ${sizes.mount}`,
  };
}

function dfLine(line: string | undefined): { device: string; total: number | null; free: number | null; mount: string } | null {
  const match = /^(.+?)\s+(\d{1,18}|-)\s+(\d{1,18}|-)\s+(-?\d{1,18}|-)\s+(?:\d+%|-)\s+(.+)$/.exec((line ?? "").trim());
  if (match === null) return null;
  const figure = (cell: string | undefined): number | null =>
    cell === undefined || cell === "-" ? null : Math.max(0, Number(cell));
  return { device: match[1] ?? "", total: figure(match[2]), free: figure(match[4]), mount: match[5] ?? "" };
}

export function readTools(answers: Answers): Seen<Readonly<Record<string, string | null>>> {
  const answer = stdoutOf(answers.of("tools"), "sh");
  if (!answer.seen) return answer;
  const pairs = lines(answer.value).map((line) => {
    const [name = "", ...path] = line.split(" ");
    return [name, path.length === 0 ? null : path.join(" ")] as const;
  });
  return seen(Object.fromEntries(pairs));
}
