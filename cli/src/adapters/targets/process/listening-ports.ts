import { readdir, readFile, readlink } from "node:fs/promises";
import { commandName } from "../../state/process-identity.js";

/** A listening TCP socket of this machine, from /proc/net/tcp. */
export interface ListeningPort {
  address: string;
  port: number;
  inode: string;
}

/** Every listening TCP socket of this network namespace. Empty where there is no /proc. */
export async function listeningPorts(): Promise<readonly ListeningPort[]> {
  const tables = await Promise.all(["/proc/net/tcp", "/proc/net/tcp6"].map((file) => readFile(file, "utf8").catch(() => "")));
  return tables.flatMap(parseListening);
}

/** `sl local_address rem_address st ... inode`, with addresses in hex, each 32-bit word in the machine's order; state 0A listens. */
export function parseListening(table: string): ListeningPort[] {
  return table
    .split("\n")
    .slice(1)
    .flatMap((line) => {
      const fields = line.trim().split(/\s+/);
      const [hex, port] = (fields[1] ?? "").split(":");
      const inode = fields[9];
      if (fields[3] !== "0A" || hex === undefined || port === undefined || inode === undefined) return [];
      return [{ address: decodeAddress(hex), port: parseInt(port, 16), inode }];
    });
}

function decodeAddress(hex: string): string {
  const words = hex.match(/.{8}/g) ?? [];
  const bytes = words.flatMap((word) => (word.match(/../g) ?? []).reverse().map((byte) => parseInt(byte, 16)));
  if (bytes.length === 4) return bytes.join(".");
  if (bytes.every((byte) => byte === 0)) return "::";
  if (bytes.slice(0, 15).every((byte) => byte === 0) && bytes[15] === 1) return "::1";
  const mapped = bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 255 && bytes[11] === 255;
  if (mapped) return bytes.slice(12).join(".");
  const groups = Array.from({ length: 8 }, (_, i) => ((bytes[2 * i] ?? 0) * 256 + (bytes[2 * i + 1] ?? 0)).toString(16));
  return groups.join(":");
}

/** Whether binding `host` collides with a socket that listens on `address`. */
export function collides(host: string, address: string): boolean {
  const any = (name: string): boolean => name === "0.0.0.0" || name === "::";
  const wanted = host === "localhost" ? "127.0.0.1" : host;
  // A wildcard IPv6 socket also answers IPv4 unless it was told not to; binding is tried as well, so this may err on the safe side.
  return wanted === address || any(wanted) || any(address);
}

/** The processes that hold sockets, by inode. Those of other users cannot be seen without being root. */
export async function socketOwners(inodes: ReadonlySet<string>): Promise<ReadonlyMap<string, readonly number[]>> {
  const owners = new Map<string, number[]>();
  const pids = (await readdir("/proc").catch(() => [])).filter((name) => /^\d+$/.test(name));
  await Promise.all(
    pids.map(async (pid) => {
      for (const inode of await socketsOf(pid)) {
        if (inodes.has(inode)) owners.set(inode, [...(owners.get(inode) ?? []), Number(pid)]);
      }
    }),
  );
  return owners;
}

async function socketsOf(pid: string): Promise<ReadonlySet<string>> {
  const descriptors = await readdir(`/proc/${pid}/fd`).catch(() => []);
  const targets = await Promise.all(descriptors.map((each) => readlink(`/proc/${pid}/fd/${each}`).catch(() => "")));
  return new Set(targets.flatMap((target) => /^socket:\[(\d+)\]$/.exec(target)?.[1] ?? []));
}

/** `pid 12 (nginx)`. */
export function nameProcess(pid: number): string {
  const name = commandName(pid);
  return `pid ${pid.toString()}${name === null ? "" : ` (${name})`}`;
}
