import { undrained, type Drained } from "../../domain/drained.js";
import { managerName, type InstanceId } from "../../domain/names.js";
import type { ModelRef, ServiceSpec } from "../../domain/release.js";
import type { StandByOperation } from "../../domain/standby.js";
import { ms, type Milliseconds } from "../../domain/units.js";
import type { Context, InstanceSpec, Lease, RemovedModels, TargetDriver } from "../../ports.js";
import { budgets, within } from "./deadline.js";
import { onNode } from "./on-nodes.js";

/**
 * The only way a use case changes anything on a target: every mutation first asks whether the lease is still ours,
 * carries its token, and has a deadline.
 */
export class LeasedTarget {
  readonly #ctx: Context;
  readonly #lease: Lease;
  readonly #node: string | null;

  /** @param node  the only one that this is about; null for all of a target, or where there is one place */
  constructor(ctx: Context, lease: Lease, node: string | null = null) {
    this.#ctx = ctx;
    this.#lease = lease;
    this.#node = node;
  }

  /** A part of the target's nodes, under the same lease; with the name of one where it is a single one. */
  at(driver: TargetDriver, node: string | null = null): LeasedTarget {
    return new LeasedTarget({ ...this.#ctx, driver }, this.#lease, node);
  }

  /** Makes sure that the target's manager runs and holds the public sockets. */
  ensureManager(): Promise<void> {
    const { config, driver, nodes } = this.#ctx;
    const budget = budgets.manager * Math.max(1, nodes?.names.length ?? 1);
    return this.#mutate(`starting the ${managerName(config.target)}`, budget, (signal) =>
      driver.ensureManager(this.#lease, signal),
    );
  }

  /** Starts an instance without public traffic. */
  start(instance: InstanceSpec, secrets: Readonly<Record<string, string>>): Promise<void> {
    return this.#mutateToItsEnd(`starting ${instance.id}`, budgets.start, (signal) =>
      this.#ctx.driver.start(instance, secrets, this.#lease, signal),
    );
  }

  /** Lets an instance answer public traffic; harmless when it already does. */
  open(id: InstanceId): Promise<void> {
    return this.#mutateToItsEnd(`opening ${id}`, 2 * budgets.traffic, (signal) => this.#ctx.driver.open(id, this.#lease, signal));
  }

  /** Stops new public traffic and waits for requests to end. Those that may be cut off are worth a warning, which is given here. */
  async close(id: InstanceId, drain: Milliseconds): Promise<Drained> {
    const closed = await this.#mutateToItsEnd(`closing ${id}`, drain + 2 * budgets.traffic, (signal) =>
      this.#ctx.driver.close(id, drain, this.#lease, signal),
    );
    const warning = undrained(id, closed, drain);
    if (warning !== null) this.#ctx.progress.emit({ kind: "warning", text: onNode(this.#node, warning) });
    return closed;
  }

  /** Ends an instance, now or after a delay that outlives this process. */
  stop(id: InstanceId, after: Milliseconds | null): Promise<void> {
    return this.#mutate(`stopping ${id}`, budgets.stop, () => this.#ctx.driver.stop(id, after, this.#lease));
  }

  /** Ends an instance that the target brings back by itself, unless its successor is opened first. */
  suspend(id: InstanceId, times: { drain: Milliseconds; restoreAfter: Milliseconds }): Promise<void> {
    const budget = times.drain + budgets.stop + budgets.traffic;
    return this.#mutate(`stopping ${id} first`, budget, () => this.#ctx.driver.suspend(id, times, this.#lease));
  }

  /** Puts behind a service what answers in its place. @param load  how long that may take to load @param prove  throws for wrong answers */
  standBy(
    { service, instance }: Pick<StandByOperation, "service" | "instance">,
    secrets: Readonly<Record<string, string>>,
    load: Milliseconds,
    prove: (there: TargetDriver, id: InstanceId) => Promise<void>,
  ): Promise<void> {
    const budget = load + budgets.start + budgets.stop + budgets.traffic + 2 * budgets.gates;
    const asked = this.#ctx.signal;
    return this.#mutate(`putting a CPU instance behind ${service}`, budget, async (late) => {
      await this.#ctx.driver.standBy?.(service, instance, secrets, prove, this.#lease, AbortSignal.any([asked, late]));
    });
  }

  /** Removes staged artefacts that no kept release names. */
  prune(keep: readonly ServiceSpec[]): Promise<readonly { what: string; bytes: number }[]> {
    return this.#mutate("pruning", budgets.prune, () => this.#ctx.driver.prune(keep, this.#lease));
  }

  /** Ends everything of the environment. */
  destroy(): Promise<void> {
    return this.#mutate("destroying the environment", budgets.stop * 2, () => this.#ctx.driver.destroy(this.#lease));
  }

  /** Removes models of an environment that has ended; null where they are not the target's own. */
  removeModels(models: readonly ModelRef[]): Promise<RemovedModels | null> {
    return this.#mutate("removing models", budgets.removeModels, async () => {
      return (await this.#ctx.driver.removeModels?.(models, this.#lease)) ?? null;
    });
  }

  /** Removes models that are not to be kept; null where they are not the target's own. */
  pruneModels(keep: readonly ModelRef[]): Promise<RemovedModels | null> {
    return this.#mutate("removing models", budgets.removeModels, async () => {
      return (await this.#ctx.driver.pruneModels?.(keep, this.#lease)) ?? null;
    });
  }

  /** Throws when another gpuctl took the lease: nothing may be changed any more, records included. */
  check(): Promise<void> {
    return this.#lease.check();
  }

  /** What is past its budget is told so, and waited for: nothing may go on on the target once it counts as failed. */
  async #mutateToItsEnd<T>(what: string, budget: number, change: (signal: AbortSignal) => Promise<T>): Promise<T> {
    let ended: Promise<unknown> = Promise.resolve();
    const begin = (signal: AbortSignal): Promise<T> => {
      const running = change(signal);
      ended = running.catch(() => undefined);
      return running;
    };
    try {
      return await this.#mutate(what, budget, begin);
    } catch (thrown) {
      await within(this.#ctx.clock, ms(budgets.abandon), `ending ${what}`, () => ended).catch(() => undefined);
      throw thrown;
    }
  }

  async #mutate<T>(what: string, budget: number, change: (signal: AbortSignal) => Promise<T>): Promise<T> {
    await this.#lease.check();
    return within(this.#ctx.clock, ms(budget), what, change);
  }
}
