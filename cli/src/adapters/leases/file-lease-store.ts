import { join } from "node:path";
import { Failed, PreflightRefused } from "../../domain/errors.js";
import { type Milliseconds, ms } from "../../domain/units.js";
import type { AuditLog, Clock, Lease, LeaseHolder, LeaseStore } from "../../ports.js";
import { currentUid } from "../state/directories.js";
import { isRunning, type ProcessTable } from "../state/process-identity.js";
import { ensurePrivateDirectory } from "../state/state-directory.js";
import { storageFailure } from "../state/storage-failure.js";
import { type LeaseEntry, LeaseFiles } from "./lease-files.js";

/** Without a heartbeat for this long a lease is over, even if its process exists (stopped, or hanging). */
const expiresAfterMs = 30_000;
const heartbeatMs = 5_000;
const pollMs = ms(200);

export interface LeaseStoreOptions {
  state: string;
  /** `project/environment`, for error texts. */
  name: string;
  owner: string;
  clock: Clock;
  audit: AuditLog;
  processes: ProcessTable;
  /** This process's number; another one only in tests. */
  pid?: number;
}

/** The lease of one environment, as files that need no lock and no server: see LeaseFiles for why that is safe. */
export class FileLeaseStore implements LeaseStore {
  readonly #files: LeaseFiles;
  readonly #directory: string;
  readonly #options: LeaseStoreOptions;
  readonly #pid: number;

  constructor(options: LeaseStoreOptions) {
    this.#options = options;
    this.#directory = join(options.state, "leases");
    this.#files = new LeaseFiles(this.#directory);
    this.#pid = options.pid ?? process.pid;
  }

  async acquire(command: string, wait: Milliseconds, signal: AbortSignal): Promise<Lease> {
    await ensurePrivateDirectory(this.#options.state, currentUid());
    await ensurePrivateDirectory(this.#directory, currentUid());
    const { clock } = this.#options;
    const began = clock.monotonic();
    for (;;) {
      signal.throwIfAborted();
      const current = await this.#guard("could not read the leases", () => this.#files.newest());
      if (current === null || this.#stateOf(current) !== "live") {
        const lease = await this.#guard("could not take the lease", () => this.#take(command, current));
        if (lease !== null) return lease;
        continue;
      }
      if (clock.monotonic() - began >= wait) throw this.#held(current, wait);
      await clock.sleep(pollMs, signal);
    }
  }

  async holder(): Promise<LeaseHolder | null> {
    const entry = await this.#guard("could not read the leases", () => this.#files.newest());
    return entry === null ? null : this.#describe(entry);
  }

  async break(force: boolean): Promise<LeaseHolder | null> {
    const entry = await this.#guard("could not read the leases", () => this.#files.newest());
    if (entry === null || entry.released) return null;
    const holder = this.#describe(entry);
    if (holder.state === "live" && !force) {
      throw new PreflightRefused(`the lease of ${this.#options.name} is held by a process that is running`, {
        because: describe(entry),
        nextSteps: [
          "wait for it to end",
          `or end it: kill ${entry.pid.toString()}`,
          "or, when that is impossible: gpuctl lock release --force",
        ],
        data: { token: entry.token, pid: entry.pid },
      });
    }
    // Taking the next token, rather than marking this one, fences off whatever the old holder still does.
    const lease = await this.#guard("could not take the lease", () => this.#take("lock release", entry));
    if (lease === null) throw new Failed("the lease changed hands meanwhile", { nextSteps: ["gpuctl lock status"] });
    await lease.release();
    return holder;
  }

  async #take(command: string, previous: LeaseEntry | null): Promise<FileLease | null> {
    const { clock, owner, processes, audit } = this.#options;
    const startTime = processes.startTime(this.#pid);
    if (startTime === null) throw new Failed("this process cannot find itself in /proc", { nextSteps: ["gpuctl doctor"] });
    const token = (previous?.token ?? 0) + 1;
    const since = clock.now().toISOString();
    const entry = { token, owner, pid: this.#pid, startTime, bootId: processes.bootId, command, since, beat: clock.monotonic() };
    if (!(await this.#files.take(entry))) return null;
    const lease = new FileLease(this.#files, entry, clock, this.#options.name);
    try {
      await this.#files.prune();
      if (previous !== null && !previous.released) {
        const detail = `${command} took lease ${token.toString()} over from ${describe(previous)}: ${this.#reason(previous)}`;
        await audit.append({ action: "lease-takeover", release: null, detail });
      }
      return lease;
    } catch (error) {
      await lease.release();
      throw error;
    }
  }

  #reason(entry: LeaseEntry): string {
    switch (this.#stateOf(entry)) {
      case "gone":
        return entry.bootId === this.#options.processes.bootId ? "its process is gone" : "the machine has booted since";
      case "expired":
        return `it sent no heartbeat for ${(expiresAfterMs / 1000).toString()} s`;
      default:
        return "it was broken by force";
    }
  }

  #stateOf(entry: LeaseEntry): LeaseHolder["state"] {
    const { processes, clock } = this.#options;
    if (entry.released) return "released";
    if (entry.bootId !== processes.bootId || !isRunning(processes, entry)) return "gone";
    return clock.monotonic() - entry.beat > expiresAfterMs ? "expired" : "live";
  }

  #describe(entry: LeaseEntry): LeaseHolder {
    const { token, owner, pid, command, since } = entry;
    return { token, owner, pid, command, since, state: this.#stateOf(entry) };
  }

  #held(entry: LeaseEntry, wait: Milliseconds): PreflightRefused {
    const waited = wait > 0 ? `, and still was after ${(wait / 1000).toString()} s` : "";
    return new PreflightRefused(`another gpuctl is changing ${this.#options.name}`, {
      because: `the lease is held by ${describe(entry)}${waited}`,
      nextSteps: ["wait for it: the same command with --lock-wait 10m", "gpuctl lock status"],
      data: { token: entry.token, owner: entry.owner, pid: entry.pid, command: entry.command, since: entry.since },
    });
  }

  async #guard<T>(what: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw storageFailure(what, this.#directory, error);
    }
  }
}

/** A held lease: beats until it is released, and knows when a newer one exists. */
class FileLease implements Lease {
  readonly token: number;
  readonly #files: LeaseFiles;
  readonly #name: string;
  readonly #timer: NodeJS.Timeout;
  #released = false;

  constructor(files: LeaseFiles, entry: { token: number }, clock: Clock, name: string) {
    this.token = entry.token;
    this.#files = files;
    this.#name = name;
    this.#timer = setInterval(() => {
      // A heartbeat that cannot be written lets the lease expire, which check() then reports.
      files.beat(entry.token, clock.monotonic()).catch(() => undefined);
    }, heartbeatMs);
    this.#timer.unref();
  }

  async check(): Promise<void> {
    const newest = (await this.#files.tokens()).at(-1);
    if (!this.#released && newest === this.token) return;
    throw new Failed(`the lease of ${this.#name} was lost`, {
      because: this.#released
        ? "it was released"
        : `a newer lease (${String(newest ?? "none")}) exists: this process did not beat for 30 s, or the lease was broken`,
      nextSteps: ["gpuctl status", "gpuctl audit", "then run the command again"],
      data: { token: this.token, newest: newest ?? null },
    });
  }

  async release(): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    clearInterval(this.#timer);
    // When even an empty file cannot be written, the end of this process releases the lease.
    await this.#files.release(this.token).catch(() => undefined);
  }
}

const describe = (entry: LeaseEntry): string =>
  `${entry.owner} running \`gpuctl ${entry.command}\` (pid ${entry.pid.toString()}, since ${entry.since})`;
