import { randomBytes } from "node:crypto";
import { mkdir, open, readFile, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { judgeHostKey, type HostKeyVerdict } from "../../domain/ssh/host-key.js";
import { hostName, knownHostLine, parseKnownHosts, type KnownHost } from "../../domain/ssh/known-hosts.js";
import { syncDirectory } from "../files/write-atomic.js";
import { errorCode } from "../state/storage-failure.js";

/** A writer holds the lock for a few milliseconds; one that is older was left by a process that died. */
const staleLockMs = 10_000;
const lockPollMs = 25;

/** Every line of the files that exist, the first file's first. */
export async function readKnownHosts(files: readonly string[]): Promise<readonly KnownHost[]> {
  const texts = await Promise.all(
    files.map(async (file) => {
      try {
        return parseKnownHosts(await readFile(file, "utf8"), file);
      } catch (error) {
        if (errorCode(error) === "ENOENT") return [];
        throw error;
      }
    }),
  );
  return texts.flat();
}

/**
 * Adds the key of a host that is not known yet, and answers what the files say of it afterwards: when another process was first
 * with another key, that one counts. The file is appended to, as ssh does, so nothing that others add meanwhile is lost.
 */
export async function acceptHostKey(
  files: readonly [string, ...string[]],
  host: { name: string; port: number },
  key: Buffer,
  hashed: boolean,
): Promise<HostKeyVerdict> {
  const [file] = files;
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  return withLock(`${file}.gpuctl-lock`, async () => {
    const before = judgeHostKey(await readKnownHosts(files), host, key);
    if (before.kind !== "unknown") return before;
    await appendLine(file, knownHostLine(hostName(host.name, host.port), key, hashed ? randomBytes(20) : null));
    return judgeHostKey(await readKnownHosts(files), host, key);
  });
}

async function appendLine(file: string, line: string): Promise<void> {
  const handle = await open(file, "a+", 0o600);
  try {
    const { size } = await handle.stat();
    const last = Buffer.alloc(1);
    if (size > 0) await handle.read(last, 0, 1, size - 1);
    const separator = size > 0 && last.toString() !== "\n" ? "\n" : "";
    await handle.write(`${separator}${line}\n`);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await syncDirectory(dirname(file));
}

async function withLock<Value>(lock: string, work: () => Promise<Value>): Promise<Value> {
  while (!(await created(lock))) {
    const age = await stat(lock).then(
      ({ mtimeMs }) => Date.now() - mtimeMs,
      () => 0,
    );
    if (age > staleLockMs) await rm(lock, { force: true });
    else await wait(lockPollMs);
  }
  try {
    return await work();
  } finally {
    await rm(lock, { force: true });
  }
}

async function created(lock: string): Promise<boolean> {
  try {
    await (await open(lock, "wx", 0o600)).close();
    return true;
  } catch (error) {
    if (errorCode(error) === "EEXIST") return false;
    throw error;
  }
}
