import { Failed } from "../../domain/errors.js";
import type { Milliseconds } from "../../domain/units.js";
import type { Lease } from "../../ports.js";
import type { Fence } from "./fence.js";
import type { HostState } from "./host-state.js";
import { parseLeaseReport, type LeaseReport } from "./lease-report.js";
import { beatScript, releaseScript } from "./lease-scripts.js";

/** A lease that was just taken. */
export interface HeldLease {
  host: HostState;
  fence: Fence;
  /** `project/environment`, for error texts. */
  name: string;
  /** Between two signs of life. */
  heartbeat: Milliseconds;
}

/** A held lease on one host: beats until it is given back, and is the fence of everything written there meanwhile. */
export class RemoteLease implements Lease {
  readonly token: number;
  readonly #host: HostState;
  readonly #fence: Fence;
  readonly #name: string;
  readonly #timer: NodeJS.Timeout;
  #beats = 0;
  #beating = false;
  #ended = false;

  constructor({ host, fence, name, heartbeat }: HeldLease) {
    this.token = fence.token;
    this.#host = host;
    this.#fence = fence;
    this.#name = name;
    host.fence = fence;
    this.#timer = setInterval(() => void this.#keepAlive(), heartbeat);
    this.#timer.unref();
  }

  /** The host's name. */
  get host(): string {
    return this.#host.name;
  }

  async check(): Promise<void> {
    const report = this.#ended ? null : await this.#beat();
    if (report?.verdict === "kept") return;
    throw new Failed(`the lease of ${this.#name} on ${this.host} was lost`, {
      because: report === null ? "it was given back" : whyLost(report, this.token),
      nextSteps: ["gpuctl status", "gpuctl audit", "then run the command again"],
      data: { node: this.host, token: this.token, newest: report?.token ?? null },
    });
  }

  /** May be repeated until it succeeds; the lease is over at the first attempt, at the latest 30 s after it. */
  async release(): Promise<void> {
    this.#ended = true;
    clearInterval(this.#timer);
    if (this.#host.fence === this.#fence) this.#host.fence = null;
    const args = [this.token.toString(), this.#fence.nonce];
    await this.#host.run({ text: releaseScript, args, failure: "the lease could not be given back" });
  }

  async #keepAlive(): Promise<void> {
    if (this.#beating) return;
    this.#beating = true;
    // A heartbeat that does not arrive lets the lease expire, which check() then reports.
    const report = await this.#beat().catch(() => null);
    this.#beating = false;
    if (report?.verdict === "lost") clearInterval(this.#timer);
  }

  async #beat(): Promise<LeaseReport | null> {
    this.#beats += 1;
    const args = [this.#host.proc, this.token.toString(), this.#fence.nonce, this.#beats.toString()];
    return parseLeaseReport(await this.#host.run({ text: beatScript, args, failure: "the lease could not be kept" }));
  }
}

function whyLost({ token, state }: LeaseReport, own: number): string {
  if (token < own) return "the host keeps no such lease any more: was it installed again?";
  if (token > own) return `a newer lease (${token}) exists: this process did not beat for 30 s, or the lease was broken`;
  return state === "gone" ? "the host has booted since" : "it was given back, or belongs to somebody else";
}
