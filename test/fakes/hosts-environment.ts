import { CommandNodes } from "../../cli/src/adapters/nodes/command-nodes.js";
import { HostsDriver } from "../../cli/src/adapters/targets/compose/hosts-driver.js";
import { Failed, TargetUnreachable } from "../../cli/src/domain/errors.js";
import type { ServiceName } from "../../cli/src/domain/names.js";
import type { Context, InstanceSpec, Lease, NodeTarget, RecordCopies, TargetDriver } from "../../cli/src/ports.js";
import { Environment, type Cli } from "./environment.js";
import { InMemoryDriver } from "./in-memory-driver.js";
import { Machine } from "./machine.js";

type Method = "ensureManager" | "start" | "open" | "close" | "stop" | "health";

/** What goes wrong on one host. */
export interface HostFault {
  /** The call that goes wrong, by its n-th time on that host; `health` counts from when traffic was moved there. */
  method: Method;
  nth: number;
  /** `fails`: once, without effect. `broken`: from then on. `lost`: the host is gone from then on. `lost-late`: after the call had its effect. */
  kind: "fails" | "broken" | "lost" | "lost-late";
}

/** An environment on several hosts: each is a machine of its own, which may be cut off; records, leases and project are those of all. */
export class HostsEnvironment {
  readonly base: Environment;
  readonly machines: ReadonlyMap<string, Machine>;
  /** Hosts that nobody reaches. */
  readonly cut = new Set<string>();
  readonly faults = new Map<string, HostFault>();
  /** What was done where, `>` when it began and `<` when it ended. */
  readonly trace: string[] = [];
  /** Where services run; everywhere without a word. */
  placed: Partial<Record<ServiceName, readonly string[]>> = {};
  copies: readonly RecordCopies[] = [];
  /** The n-th `open` from now on, anywhere, never happens: whoever asks for it is killed instead. */
  killsAtOpen: number | null = null;
  /** How every wait for last requests ends, anywhere. */
  drained = true;
  #opens = 0;

  constructor(names: readonly string[], services: readonly ServiceName[] = ["embedder"]) {
    this.base = new Environment(services);
    this.machines = new Map(names.map((name) => [name, new Machine()]));
  }

  get names(): readonly string[] {
    return [...this.machines.keys()];
  }

  machine(name: string): Machine {
    const machine = this.machines.get(name);
    if (machine === undefined) throw new Error(`there is no host ${name}`);
    return machine;
  }

  /** Releases that answer on a host, by the instances that do. */
  serving(name: string): readonly string[] {
    return [
      ...new Set(
        this.machine(name)
          .serving()
          .map((id) => /r\d+-[0-9a-f]+/.exec(id)?.[0] ?? id),
      ),
    ];
  }

  /** A gpuctl process with its flags. */
  ctx(choice: { hosts?: readonly string[]; parallel?: number } = {}): Context {
    const cli = this.base.cli();
    const nodes = new CommandNodes(this.names, choice);
    const targets = this.names.map((node): NodeTarget => ({ node, driver: this.#host(node, cli) }));
    const [first, ...rest] = targets;
    if (first === undefined) throw new Error("an environment without hosts");
    const nodesOf = (service: ServiceName): readonly string[] => this.placed[service] ?? this.names;
    const driver = new HostsDriver({ hosts: [first, ...rest], nodesOf, nodes });
    const releases = cli.interference.around("releases", this.#releases(nodes), false);
    return { ...cli.ctx, driver, nodes, releases, leases: this.#leases(cli.ctx, nodes) };
  }

  /** Everything answers again, and nothing goes wrong any more. */
  heal(): void {
    this.cut.clear();
    this.faults.clear();
  }

  #host(name: string, { interference }: Cli): TargetDriver {
    const driver = new InMemoryDriver(this.machine(name), this.base.clock);
    driver.drained = this.drained;
    const counts = new Map<string, number>();
    return new Proxy<TargetDriver>(driver, {
      get: (target, key) => {
        const member: unknown = Reflect.get(target, key);
        if (typeof member !== "function" || typeof key !== "string" || key === "privateAddress" || key === "logs") return member;
        return async (...given: unknown[]): Promise<unknown> => {
          if (key === "open" && this.killsAtOpen !== null && (this.#opens += 1) === this.killsAtOpen) interference.kill();
          if (!interference.alive) return new Promise(() => undefined);
          const counted = key !== "health" || this.trace.some((line) => line.startsWith(`< open ${name}`));
          if (counted) counts.set(key, (counts.get(key) ?? 0) + 1);
          const call = (): Promise<unknown> => Reflect.apply(member, target, given) as Promise<unknown>;
          return this.#call(name, key, counts.get(key) ?? 0, given, call);
        };
      },
    });
  }

  async #call(host: string, method: string, count: number, given: readonly unknown[], run: () => Promise<unknown>) {
    if (this.cut.has(host)) throw unreachable(host);
    const fault = this.faults.get(host);
    const due = fault?.method === method && (fault.kind === "broken" ? count >= fault.nth : count === fault.nth);
    if (due && fault.kind === "lost") this.cut.add(host);
    if (due && fault.kind !== "lost-late") {
      if (fault.kind === "lost") throw unreachable(host);
      throw new Failed(`${method} went wrong`, { because: "a test made it so" });
    }
    const what = `${method} ${host} ${typeof given[0] === "string" ? given[0] : ""}`.trim();
    this.trace.push(`> ${what}`);
    // Real hosts start what runs already without a word, as they open what is open.
    const runs = method === "start" && this.machine(host).running((given[0] as InstanceSpec).id) !== null;
    const answer = runs ? undefined : await run();
    this.trace.push(`< ${what}`);
    if (!due) return answer;
    this.cut.add(host);
    throw unreachable(host);
  }

  /** Writing needs every host in use. */
  #releases(nodes: CommandNodes): Context["releases"] {
    const { releases } = this.base;
    const writing = async <T>(write: () => Promise<T>): Promise<T> => {
      this.#requireInUse(nodes);
      return write();
    };
    return {
      list: async () => ({ ...(await releases.list()), copies: this.copies }),
      create: (...given) => writing(() => releases.create(...given)),
      update: (...given) => writing(() => releases.update(...given)),
      remove: (...given) => writing(() => releases.remove(...given)),
      secrets: (...given) => releases.secrets(...given),
      hmac: (...given) => releases.hmac(...given),
      complete: () =>
        writing(() => {
          const lacking = this.copies.filter(({ state }) => state === "blank" || state === "behind");
          this.copies = [];
          return Promise.resolve(lacking.map(({ host }) => `${host} got what it lacked`));
        }),
    };
  }

  #leases(ctx: Context, nodes: CommandNodes): Context["leases"] {
    return {
      ...ctx.leases,
      holder: () => ctx.leases.holder(),
      break: (force) => ctx.leases.break(force),
      acquire: async (...given): Promise<Lease> => {
        this.#requireInUse(nodes);
        const lease = await ctx.leases.acquire(...given);
        return {
          token: lease.token,
          release: () => lease.release(),
          check: async () => {
            this.#requireInUse(nodes);
            await lease.check();
          },
        };
      },
    };
  }

  #requireInUse(nodes: CommandNodes): void {
    const gone = this.names.find((name) => nodes.inUse(name) && this.cut.has(name));
    if (gone !== undefined) throw unreachable(gone);
  }
}

const unreachable = (host: string): TargetUnreachable =>
  new TargetUnreachable(`${host} cannot be reached`, { because: `${host} is off`, data: { node: host } });
