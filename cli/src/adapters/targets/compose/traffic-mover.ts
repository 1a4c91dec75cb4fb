import { Failed } from "../../../domain/errors.js";
import { requestsInFlight } from "../../../domain/compose/caddy-output.js";
import type { HostLayout } from "../../../domain/compose/layout.js";
import { describeStep, isChecked, surelyCheckedMs, type SwitchStep } from "../../../domain/compose/traffic.js";
import { ms, type Milliseconds } from "../../../domain/units.js";
import type { Clock, Lease } from "../../../ports.js";
import type { HostCommands } from "./host-commands.js";
import type { HostHttp } from "./host-http.js";
import { gateScript, orderArguments, restartScript } from "./orders.js";

const pollMs = ms(100);
/** Each listener of the proxy asks five times a second; ten seconds are for a host that is overloaded. */
export const checkedWithin = 10_000;

export interface Movers {
  commands: HostCommands;
  http: HostHttp;
  layout: HostLayout;
  clock: Clock;
  /** What finds the environment's containers. */
  filters: readonly string[];
  /** Whether the container of an instance runs, by Docker. */
  runs(id: string): Promise<boolean>;
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
  async carryOut(
    steps: readonly SwitchStep[],
    drain: Milliseconds,
    lease: Lease,
    signal?: AbortSignal,
  ): Promise<{ drained: boolean; waitedMs: number }> {
    const { clock, commands } = this.#parts;
    const began = clock.monotonic();
    let drained = true;
    for (const step of steps) {
      await lease.check();
      signal?.throwIfAborted();
      if (commands.rehearsal !== null && (step.kind === "await-idle" || step.kind === "await-checked")) {
        commands.rehearsal.note(describeStep(step));
        continue;
      }
      if (step.kind === "await-idle") drained = await this.#awaitIdle(step.upstream, drain);
      else await this.#carryOut(step, lease);
    }
    return { drained, waitedMs: Math.round(clock.monotonic() - began) };
  }

  async #carryOut(step: Exclude<SwitchStep, { kind: "await-idle" }>, lease: Lease): Promise<void> {
    const { commands, layout, filters } = this.#parts;
    const args = orderArguments(layout.root, filters, step.id);
    switch (step.kind) {
      case "set-gate":
        await commands.change(lease, {
          text: gateScript,
          args: [...args, step.gate],
          failure: `the gate of ${step.id} could not be set`,
        });
        return;
      case "set-restart":
        await commands.change(lease, {
          text: restartScript,
          args: [...args, step.policy],
          failure: `the restart policy of ${step.id} could not be set`,
        });
        return;
      case "await-checked":
        await this.#awaitChecked(step);
    }
  }

  async #awaitChecked(step: Extract<SwitchStep, { kind: "await-checked" }>): Promise<void> {
    const { clock, http, layout, commands } = this.#parts;
    const began = clock.monotonic();
    for (;;) {
      const view = await http.traffic(layout.private(step.id));
      const elapsed = clock.monotonic() - began;
      // What does not run gets no requests; what does not run cannot be opened.
      if (view === null && !(await this.#parts.runs(step.id))) {
        if (!step.open) return;
        throw new Failed(`${step.id} cannot be opened`, {
          because: `its container does not run on ${commands.node}`,
          nextSteps: ["gpuctl logs", "gpuctl status"],
        });
      }
      if (isChecked(step, view, elapsed)) return;
      // One that was never open has told nobody anything, and by then every listener has asked.
      if (!step.open && view?.open === false && elapsed >= surelyCheckedMs) return;
      if (elapsed > checkedWithin) throw this.#unseen(step, view?.open ?? null);
      await clock.sleep(pollMs);
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

  /** Until the proxy counts no request to a place. A proxy that does not answer sends none. */
  async #awaitIdle(upstream: string, drain: Milliseconds): Promise<boolean> {
    const { clock, http, layout } = this.#parts;
    const began = clock.monotonic();
    for (;;) {
      const upstreams = await http.upstreams(layout.proxyAdmin);
      if (upstreams === null || (requestsInFlight(upstreams, upstream) ?? 0) === 0) return true;
      if (clock.monotonic() - began >= drain) return false;
      await clock.sleep(pollMs);
    }
  }
}
