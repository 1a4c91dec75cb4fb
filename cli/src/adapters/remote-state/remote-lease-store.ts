import { randomBytes } from "node:crypto";
import { Failed, PreflightRefused } from "../../domain/errors.js";
import { ms, type Milliseconds } from "../../domain/units.js";
import type { AuditLog, Clock, LeaseHolder, LeaseStore } from "../../ports.js";
import type { HostState } from "./host-state.js";
import { describeTaker, holderOf, parseLeaseReport, stateSeenFrom, type LeaseReport, type OwnMachine } from "./lease-report.js";
import { expiresAfterSeconds, lookScript, takeScript } from "./lease-scripts.js";
import { RemoteLease } from "./remote-lease.js";

const pollMs = ms(1000);
const usualHeartbeat = ms(5000);

export interface RemoteLeaseOptions {
  host: HostState;
  /** `project/environment`, for error texts. */
  name: string;
  /** `user@host`. */
  owner: string;
  clock: Clock;
  /** Gets a line when a lease is taken over from a holder that is gone. */
  audit: AuditLog;
  here: OwnMachine;
  /** This process's number; another one only in tests. */
  pid?: number;
  /** Between two signs of life of a held lease; well below the 30 s after which it expires. */
  heartbeat?: Milliseconds;
}

/** The lease of one environment on one host, as numbered files there; see `takeScript` for why that is safe. */
export class RemoteLeaseStore implements LeaseStore {
  readonly #options: RemoteLeaseOptions;
  readonly #pid: number;

  constructor(options: RemoteLeaseOptions) {
    this.#options = options;
    this.#pid = options.pid ?? process.pid;
  }

  /** The host's name. */
  get host(): string {
    return this.#options.host.name;
  }

  async acquire(command: string, wait: Milliseconds, signal: AbortSignal): Promise<RemoteLease> {
    const { clock, here } = this.#options;
    const began = clock.monotonic();
    // Of this attempt: whoever asks again with it gets what it has taken already.
    const nonce = randomBytes(12).toString("hex");
    let over = 0;
    for (;;) {
      signal.throwIfAborted();
      const report = await this.#take("take", command, nonce, over, signal);
      if (report.verdict === "taken" || report.verdict === "mine") return this.#hold(command, nonce, report);
      if (report.verdict === "again") continue;
      if (report.token !== over && stateSeenFrom(here, report) === "gone") {
        over = report.token;
        continue;
      }
      if (clock.monotonic() - began >= wait) throw this.#held(report, wait);
      await clock.sleep(pollMs, signal);
    }
  }

  async holder(): Promise<LeaseHolder | null> {
    return holderOf(this.#options.here, await this.#look());
  }

  async break(force: boolean): Promise<LeaseHolder | null> {
    const report = await this.#look();
    const holder = holderOf(this.#options.here, report);
    if (holder === null || holder.state === "released") return null;
    if (holder.state === "live" && !force) throw this.#atWork(report);
    const nonce = randomBytes(12).toString("hex");
    // Only a holder that the host takes for live, and that has ended here, is passed over by its number.
    const over = report.state === "live" ? report.token : 0;
    const broken = await this.#take(force ? "force" : "break", "lock release", nonce, over);
    if (broken.verdict === "none") return null;
    if (broken.verdict === "taken") await this.#tellTakeover("lock release", broken);
    if (broken.verdict === "taken" || broken.verdict === "mine") return holder;
    throw new Failed(`the lease on ${this.host} changed hands meanwhile`, { nextSteps: ["gpuctl lock status"] });
  }

  async #hold(command: string, nonce: string, report: LeaseReport): Promise<RemoteLease> {
    const { host, name, heartbeat = usualHeartbeat } = this.#options;
    const fence = { token: report.took ?? report.token, nonce };
    const lease = new RemoteLease({ host, fence, name, heartbeat });
    try {
      if (report.verdict === "taken") await this.#tellTakeover(command, report);
      return lease;
    } catch (error) {
      await lease.release().catch(() => undefined);
      throw error;
    }
  }

  async #tellTakeover(command: string, previous: LeaseReport): Promise<void> {
    if (previous.state === "none" || previous.state === "released") return;
    const token = previous.took ?? previous.token + 1;
    const detail = `${command} took lease ${token} on ${this.host} over from ${describeTaker(previous.taker)}: ${this.#reason(previous)}`;
    await this.#options.audit.append({ action: "lease-takeover", release: null, detail });
  }

  #reason(previous: LeaseReport): string {
    switch (stateSeenFrom(this.#options.here, previous)) {
      case "gone":
        return previous.state === "gone" ? "the host has booted since" : "its process is gone";
      case "expired":
        return `it sent no heartbeat for ${expiresAfterSeconds} s`;
      default:
        return "it was broken by force";
    }
  }

  async #look(): Promise<LeaseReport> {
    const { host } = this.#options;
    return reportOf(host, await host.run({ text: lookScript, args: [host.proc], failure: "the lease could not be read" }));
  }

  async #take(
    mode: "take" | "break" | "force",
    command: string,
    nonce: string,
    over: number,
    signal?: AbortSignal,
  ): Promise<LeaseReport> {
    const { host, owner, clock, here } = this.#options;
    const startTime = here.processes.startTime(this.#pid);
    if (startTime === null) throw new Failed("this process cannot find itself in /proc", { nextSteps: ["gpuctl doctor"] });
    const since = clock.now().toISOString();
    const input = `${JSON.stringify({ owner, pid: this.#pid, startTime, machine: here.id, command, since })}\n`;
    const text = await host.run({
      text: takeScript,
      args: [host.proc, mode, nonce, over.toString(), Buffer.byteLength(input).toString()],
      input,
      failure: "the lease could not be taken",
      ...(signal === undefined ? {} : { signal }),
    });
    return reportOf(host, text);
  }

  #held(report: LeaseReport, wait: Milliseconds): PreflightRefused {
    const waited = wait > 0 ? `, and still was after ${wait / 1000} s` : "";
    const { owner, pid, command, since } = report.taker;
    return new PreflightRefused(`another gpuctl is changing ${this.#options.name}`, {
      because: `the lease on ${this.host} is held by ${describeTaker(report.taker)}${waited}`,
      nextSteps: ["wait for it: the same command with --lock-wait 10m", "gpuctl lock status"],
      data: { node: this.host, token: report.token, owner, pid, command, since },
    });
  }

  #atWork(report: LeaseReport): PreflightRefused {
    return new PreflightRefused(`the lease of ${this.#options.name} on ${this.host} is held by a command that is at work`, {
      because: `${describeTaker(report.taker)}, which gave a sign of life ${report.silent} s ago`,
      nextSteps: [
        "wait for it to end",
        `or end it: kill ${report.taker.pid}   # on the machine of ${report.taker.owner}`,
        "or, when that is impossible: gpuctl lock release --force",
      ],
      data: { node: this.host, token: report.token, pid: report.taker.pid },
    });
  }
}

function reportOf(host: HostState, text: string): LeaseReport {
  const report = parseLeaseReport(text);
  if (report === null) throw new Failed(`${host.name} said nothing of use about its lease`, { nextSteps: ["gpuctl doctor"] });
  return report;
}
