import { spawn } from "node:child_process";
import { open, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { TargetUnreachable } from "../../../domain/errors.js";
import { ms } from "../../../domain/units.js";
import type { Clock, Lease } from "../../../ports.js";
import { currentUid, type Environment } from "../../state/directories.js";
import { isRunning, type ProcessTable } from "../../state/process-identity.js";
import { ensurePrivateDirectory } from "../../state/state-directory.js";
import { readKeeperIdentity } from "./desired-file.js";
import type { KeeperClient, KeeperHello } from "./keeper-client.js";
import { NoAnswer } from "./line-socket.js";
import { pythonOf } from "./python-environment.js";
import type { StateLayout } from "./state-layout.js";

/** The version of the keeper's messages that this gpuctl speaks. */
export const keeperProtocol = 1;

export interface KeeperHost {
  layout: StateLayout;
  keeper: KeeperClient;
  processes: ProcessTable;
  clock: Clock;
  env: Environment;
}

/** What a keeper is started from. */
export interface KeeperCode {
  python: string;
  wheel: string;
  version: string;
}

const startDeadlineMs = 20_000;
const pollMs = ms(20);

/**
 * Makes sure that a keeper of this protocol and at least this version answers. An older one hands its instances over; one
 * that hangs is ended first, which costs nothing: instances serve without it.
 */
export async function ensureKeeper(
  host: KeeperHost,
  code: () => Promise<KeeperCode>,
  lease: Lease,
  signal: AbortSignal,
): Promise<void> {
  const hello = await helloOrEnd(host, signal);
  const serves = hello?.protocol === keeperProtocol && !isOlder(hello.version, (await code()).version);
  if (serves) return;
  if (hello !== null) await retire(host, hello, lease, signal);
  await lease.check();
  await startKeeper(host, await code(), signal);
}

async function helloOrEnd(host: KeeperHost, signal: AbortSignal): Promise<KeeperHello | null> {
  try {
    return await host.keeper.hello();
  } catch (error) {
    if (!(error instanceof NoAnswer)) throw error;
  }
  const identity = await readKeeperIdentity(host.layout.keeperFile);
  if (identity?.bootId !== host.processes.bootId || !isRunning(host.processes, identity)) return null;
  process.kill(identity.pid, "SIGKILL");
  await until(host, signal, () => Promise.resolve(!isRunning(host.processes, identity)));
  return null;
}

async function retire(host: KeeperHost, hello: KeeperHello, lease: Lease, signal: AbortSignal): Promise<void> {
  await host.keeper.shutdown(lease.token, true);
  await until(host, signal, () => Promise.resolve(!isRunning(host.processes, hello)));
}

async function startKeeper(host: KeeperHost, code: KeeperCode, signal: AbortSignal): Promise<void> {
  const { layout } = host;
  const uid = currentUid();
  if (!layout.run.startsWith(layout.state)) await ensurePrivateDirectory(dirname(layout.run), uid);
  for (const directory of [layout.state, layout.run, layout.logs, layout.instances]) await ensurePrivateDirectory(directory, uid);
  const ended = await launch(host, code);
  const answers = async (): Promise<boolean> => (await host.keeper.hello().catch(() => null)) !== null;
  const began = host.clock.monotonic();
  while (!(await answers())) {
    signal.throwIfAborted();
    const waited = host.clock.monotonic() - began;
    // One that ends may have lost against another keeper, which will answer in a moment.
    if (waited > startDeadlineMs || (ended() !== null && waited > 1000)) throw await neverAnswered(host, ended());
    await host.clock.sleep(pollMs, signal);
  }
}

/** Starts it in a session of its own, so that it outlives this process and its terminal. */
async function launch({ layout, env }: KeeperHost, code: KeeperCode): Promise<() => string | null> {
  const log = await open(layout.keeperLog, "a", 0o600);
  try {
    const passed = ["PATH", "HOME", "LANG", "TZ"].flatMap((name) =>
      env[name] === undefined ? [] : [[name, env[name]] as const],
    );
    const child = spawn(pythonOf(code.python), ["-m", "gpuctl_serving.keeper", "--state", layout.state], {
      cwd: layout.state,
      detached: true,
      stdio: ["ignore", log.fd, log.fd],
      env: { ...Object.fromEntries(passed), PYTHONPATH: code.wheel },
    });
    let ended: string | null = null;
    child.once("error", (error) => (ended = error.message));
    child.once(
      "exit",
      (status, signal) => (ended = signal === null ? `it exited with status ${String(status)}` : `it was ended by ${signal}`),
    );
    child.unref();
    return () => ended;
  } finally {
    await log.close();
  }
}

async function neverAnswered({ layout }: KeeperHost, ended: string | null): Promise<TargetUnreachable> {
  const log = await readFile(layout.keeperLog, "utf8").catch(() => "");
  const tail = log.trimEnd().split("\n").slice(-5).join("\n");
  return new TargetUnreachable("the keeper of this environment could not be started", {
    because: `${ended ?? `it did not answer within ${(startDeadlineMs / 1000).toString()} s`}${tail === "" ? "" : `; its log ends with:\n${tail}`}`,
    nextSteps: [`less ${layout.keeperLog}`, "gpuctl doctor"],
  });
}

/** Waits for a process to end. */
async function until(host: KeeperHost, signal: AbortSignal, done: () => Promise<boolean>): Promise<void> {
  const began = host.clock.monotonic();
  while (!(await done())) {
    if (host.clock.monotonic() - began > startDeadlineMs) {
      throw new TargetUnreachable("the old keeper of this environment does not end", {
        nextSteps: ["gpuctl status", `less ${host.layout.keeperLog}`],
      });
    }
    await host.clock.sleep(pollMs, signal);
  }
}

/** Compares the numbers of two versions; what follows them (`+local`) does not make one older. */
export function isOlder(a: string, b: string): boolean {
  const numbers = (version: string): number[] => (/^\d+(?:\.\d+)*/.exec(version)?.[0] ?? "0").split(".").map(Number);
  const [left, right] = [numbers(a), numbers(b)];
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}
