import { Failed, TargetUnreachable } from "../../../domain/errors.js";
import { requestsInFlight } from "../../../domain/compose/caddy-output.js";
import type { HostLayout } from "../../../domain/compose/layout.js";
import { describeStep, isChecked, surelyCheckedMs, type SwitchStep } from "../../../domain/compose/traffic.js";
import { ms, type Milliseconds } from "../../../domain/units.js";
import { undrained, type Drained } from "../../../domain/drained.js";
import type { InstanceId } from "../../../domain/names.js";
import type { Clock, Lease, Progress } from "../../../ports.js";
import type { HostCommands } from "./host-commands.js";
import type { HostHttp } from "./host-http.js";
import type { HostReader } from "./host-reader.js";
import { gateScript, orderArguments, restartScript } from "./orders.js";

const pollMs = ms(100);
/** Each listener of the proxy asks five times a second; ten seconds are for a host that is overloaded, or out of reach for a moment. */
export const checkedWithin = 10_000;

export interface Movers {
  commands: HostCommands;
  http: HostHttp;
  layout: HostLayout;
  clock: Clock;
  /** What finds the environment's containers. */
  filters: readonly string[];
  progress: Progress;
  /** Who sees which containers run; null while Docker does not say. */
  reader: Pick<HostReader, "runs" | "proxyIsDown">;
}

/** Carries out steps of a switch, each of which waits for what it needs. */
export class TrafficMover {
  readonly #parts: Movers;

  constructor(parts: Movers) {
    this.#parts = parts;
  }

  /**
   * @param drain   how long requests may take to end; what is still running then is left alone and said
   * @param signal  once it is aborted no further step is taken
   */
  async carryOut(steps: readonly SwitchStep[], drain: Milliseconds, lease: Lease, signal?: AbortSignal): Promise<Drained> {
    const { clock, commands } = this.#parts;
    const began = clock.monotonic();
    let drained: boolean | null = true;
    for (const step of steps) {
      await this.#insisting(() => lease.check(), signal);
      signal?.throwIfAborted();
      if (commands.rehearsal !== null && (step.kind === "await-idle" || step.kind === "await-checked")) {
        commands.rehearsal.note(describeStep(step));
        continue;
      }
      if (step.kind === "await-idle") drained = await this.#awaitIdle(step.upstream, drain, signal);
      else await this.#carryOut(step, lease, signal);
    }
    return { drained, waitedMs: Math.round(clock.monotonic() - began) };
  }

  /** Steps that wait for what an instance still answers before it is ended. What is left of it then is cut off, and said. */
  async drain(id: InstanceId, steps: readonly SwitchStep[], limit: Milliseconds, lease: Lease): Promise<void> {
    const { commands, progress } = this.#parts;
    const warning = undrained(id, await this.carryOut(steps, limit, lease), limit);
    if (warning !== null) progress.emit({ kind: "warning", text: `${commands.node}: ${warning}` });
  }

  async #carryOut(step: Exclude<SwitchStep, { kind: "await-idle" }>, lease: Lease, signal?: AbortSignal): Promise<void> {
    if (step.kind === "await-checked") return this.#awaitChecked(step, signal);
    const { layout, filters } = this.#parts;
    const [text, value, what] =
      step.kind === "set-gate" ? [gateScript, step.gate, "gate"] : [restartScript, step.policy, "restart policy"];
    const args = [...orderArguments(layout.root, filters, step.id), value];
    const script = { text, args, failure: `the ${what} of ${step.id} could not be set` };
    await this.#insisting(() => this.#parts.commands.change(lease, script), signal);
  }

  /** Once more when the connection is lost: nobody knows whether it was done, and done twice it changes nothing more. */
  async #insisting(work: () => Promise<unknown>, signal?: AbortSignal): Promise<void> {
    const { clock } = this.#parts;
    let lostAt: number | null = null;
    for (;;) {
      try {
        await work();
        return;
      } catch (thrown) {
        lostAt ??= clock.monotonic();
        if (!(thrown instanceof TargetUnreachable) || clock.monotonic() - lostAt > checkedWithin) throw thrown;
      }
      await clock.sleep(pollMs, signal);
    }
  }

  async #awaitChecked(step: Extract<SwitchStep, { kind: "await-checked" }>, signal?: AbortSignal): Promise<void> {
    const { clock, http, layout, commands, reader } = this.#parts;
    const began = clock.monotonic();
    for (;;) {
      const view = await answered(http.traffic(layout.private(step.id)), null);
      const late = clock.monotonic() - began > checkedWithin;
      const running = view !== null || (await (late ? reader.runs(step.id) : answered(reader.runs(step.id), null)));
      // What does not run gets no requests; what does not run cannot be opened.
      if (running === false) {
        if (!step.open) return;
        throw new Failed(`${step.id} cannot be opened`, {
          because: `its container does not run on ${commands.node}`,
          nextSteps: ["gpuctl logs", "gpuctl status"],
        });
      }
      const elapsed = clock.monotonic() - began;
      // Time alone tells that it was seen only of one that surely runs: nothing else may be closed for one that nobody knows of.
      if ((running === true || !step.open) && isChecked(step, view, elapsed)) return;
      // One that was never open has told nobody anything, and by then every listener has asked.
      if (!step.open && view?.open === false && elapsed >= surelyCheckedMs) return;
      if (late) throw this.#unseen(step, view?.open ?? null);
      await clock.sleep(pollMs, signal);
    }
  }

  #unseen({ id, open, checkers }: Extract<SwitchStep, { kind: "await-checked" }>, said: boolean | null): Failed {
    const { commands, layout } = this.#parts;
    const instance = said === null ? "it does not answer" : `it says that its gate is ${said ? "open" : "closed"}`;
    return new Failed(`the proxy did not see ${id} ${open ? "open" : "closed"} within ${checkedWithin / 1000} s`, {
      because: `${instance}; asked for by ${checkers.join(", ")}`,
      nextSteps: [
        "gpuctl logs",
        `curl -s --unix-socket ${layout.proxyAdmin} http://localhost/reverse_proxy/upstreams   # on ${commands.node}`,
      ],
    });
  }

  /**
   * Until the proxy counts no request to a place, or for so long; null when it could not be asked then. One that does not answer may
   * have requests all the same, and so may one whose host says nothing for a while. Only one whose container does not run has none.
   */
  async #awaitIdle(upstream: string, drain: Milliseconds, signal?: AbortSignal): Promise<boolean | null> {
    const { clock, http, layout, reader } = this.#parts;
    const began = clock.monotonic();
    for (;;) {
      const upstreams = await answered(http.upstreams(layout.proxyAdmin), null);
      if (upstreams === null ? await answered(reader.proxyIsDown(), false) : (requestsInFlight(upstreams, upstream) ?? 0) === 0)
        return true;
      if (clock.monotonic() - began >= drain) return upstreams === null ? null : false;
      await clock.sleep(pollMs, signal);
    }
  }
}

/** What a host said, or what stands for its silence: a connection that was lost, or an answer that did not come in time. */
async function answered<T>(answer: Promise<T>, silence: T): Promise<T> {
  try {
    return await answer;
  } catch (thrown) {
    if (thrown instanceof TargetUnreachable || thrown instanceof Failed) return silence;
    throw thrown;
  }
}
