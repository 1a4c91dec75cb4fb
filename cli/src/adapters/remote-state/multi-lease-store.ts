import { Failed, TargetUnreachable } from "../../domain/errors.js";
import { ms, type Milliseconds } from "../../domain/units.js";
import type { Clock, Lease, LeaseHolder, LeaseStore } from "../../ports.js";
import { onEach } from "./on-each.js";
import type { RemoteLease } from "./remote-lease.js";
import type { RemoteLeaseStore } from "./remote-lease-store.js";

/** Whether a command has to do with a host, by its name. */
type InUse = (host: string) => boolean;
const everyHost: InUse = () => true;

/**
 * The lease of an environment on all its hosts, all or nothing. It is taken host by host in the order of their names, so that two
 * operators never wait for each other.
 */
export class MultiLeaseStore implements LeaseStore {
  readonly #all: readonly RemoteLeaseStore[];
  readonly #clock: Clock;
  readonly #inUse: InUse;

  constructor(stores: readonly RemoteLeaseStore[], clock: Clock, inUse: InUse = everyHost) {
    if (stores.length === 0) throw new Failed("an environment without hosts has no lease");
    this.#all = [...stores].sort((a, b) => (a.host < b.host ? -1 : 1));
    this.#clock = clock;
    this.#inUse = inUse;
  }

  get #stores(): readonly RemoteLeaseStore[] {
    return this.#all.filter(({ host }) => this.#inUse(host));
  }

  async acquire(command: string, wait: Milliseconds, signal: AbortSignal): Promise<MultiLease> {
    const began = this.#clock.monotonic();
    const taken: RemoteLease[] = [];
    try {
      for (const store of this.#stores) {
        const left = ms(Math.max(0, wait - (this.#clock.monotonic() - began)));
        taken.push(await store.acquire(command, left, signal));
      }
      return new MultiLease(taken, this.#inUse);
    } catch (error) {
      // What cannot be given back now ends 30 s after its last heartbeat; the reason of the failure matters more.
      await Promise.allSettled(taken.map((lease) => lease.release()));
      throw error;
    }
  }

  /** The holder that matters most: one that lives, on whichever host. Hosts that cannot be reached are passed over unless all are. */
  async holder(): Promise<LeaseHolder | null> {
    const answers = await Promise.allSettled(this.#stores.map((store) => store.holder()));
    const other = answers.find((answer) => answer.status === "rejected" && !(answer.reason instanceof TargetUnreachable));
    const failed = other ?? (answers.every(({ status }) => status === "rejected") ? answers[0] : undefined);
    if (failed?.status === "rejected") throw failed.reason;
    return mostAlive(answers.flatMap((answer) => (answer.status === "fulfilled" ? (answer.value ?? []) : [])));
  }

  /** Throws PreflightRefused before any lease is broken when a holder is live on any host, unless forced. */
  async break(force: boolean): Promise<LeaseHolder | null> {
    const held = await onEach(this.#stores, async (store) => ({ store, holder: await store.holder() }));
    const live = held.filter(({ holder }) => holder?.state === "live");
    const [first] = live;
    // Its own refusal names the host and the holder.
    if (first !== undefined && !force) return first.store.break(false);
    const broken = await onEach(this.#stores, (store) => store.break(force));
    return mostAlive(broken.filter((holder) => holder !== null));
  }
}

const order: readonly LeaseHolder["state"][] = ["live", "expired", "gone", "released"];

function mostAlive(holders: readonly LeaseHolder[]): LeaseHolder | null {
  return order.flatMap((state) => holders.filter((holder) => holder.state === state))[0] ?? null;
}

/** The leases on all hosts of an environment. Each host counts its own tokens. A host that was given up needs none any more. */
class MultiLease implements Lease {
  readonly #all: readonly RemoteLease[];
  readonly #inUse: InUse;

  constructor(leases: readonly RemoteLease[], inUse: InUse) {
    this.#all = leases;
    this.#inUse = inUse;
  }

  get #leases(): readonly RemoteLease[] {
    return this.#all.filter(({ host }) => this.#inUse(host));
  }

  /** The highest of the tokens; what a host is asked to do carries the host's own. */
  get token(): number {
    return Math.max(...this.#all.map(({ token }) => token));
  }

  async check(): Promise<void> {
    await onEach(this.#leases, (lease) => lease.check());
  }

  async release(): Promise<void> {
    await onEach(this.#leases, (lease) => lease.release());
  }
}
