import { Failed, Interrupted } from "../../cli/src/domain/errors.js";
import type { Lease, LeaseStore } from "../../cli/src/ports.js";

/** What happens to one call of a port. `late` variants let the call have its effect first. */
export const mischiefs = ["throws", "throws-late", "hangs", "hangs-late", "killed", "killed-late", "interrupted"] as const;
export type MischiefKind = (typeof mischiefs)[number];

/** One fault at the n-th port call of a gpuctl process. */
export interface Mischief {
  at: number;
  kind: MischiefKind;
}

const never = new Promise<never>(() => undefined);

/** Stands between a gpuctl process and its ports, counts every call, and makes one of them go wrong. */
export class Interference {
  readonly calls: string[] = [];
  alive = true;
  readonly #mischief: Mischief | null;
  readonly #abort: AbortController;

  constructor(mischief: Mischief | null, abort: AbortController) {
    this.#mischief = mischief;
    this.#abort = abort;
  }

  /** kill -9: from now on nothing this process asks for happens. */
  kill(): void {
    this.alive = false;
  }

  /** A port whose calls are counted and may go wrong; uncounted ones only die with the process. */
  around<T extends object>(name: string, port: T, counted = true): T {
    return new Proxy(port, {
      get: (target, key) => {
        const member: unknown = Reflect.get(target, key);
        if (typeof member !== "function" || typeof key !== "string") return member;
        return (...given: unknown[]): unknown =>
          this.#call(`${name}.${key}${pathOf(given)}`, () => Reflect.apply(member, target, given) as unknown, counted);
      },
    });
  }

  aroundLeases(store: LeaseStore): LeaseStore {
    const wrapped = this.around("leases", store);
    return {
      acquire: async (...given) => this.around<Lease>("lease", await wrapped.acquire(...given)),
      holder: () => wrapped.holder(),
      break: (force) => wrapped.break(force),
    };
  }

  #call(name: string, run: () => unknown, counted: boolean): unknown {
    if (!this.alive) return answersLater(name) ? never : run();
    if (!counted || !answersLater(name)) return run();
    const n = this.calls.push(name) - 1;
    if (this.#mischief?.at !== n) return this.#unlessDead(run());
    return this.#unlessDead(this.#goWrong(this.#mischief.kind, name, run));
  }

  async #goWrong(kind: MischiefKind, name: string, run: () => unknown): Promise<unknown> {
    if (kind.endsWith("-late")) await run();
    switch (kind) {
      case "throws":
      case "throws-late":
        throw new Failed(`${name} went wrong`, { because: "a test made it so" });
      case "hangs":
      case "hangs-late":
        return never;
      case "killed":
      case "killed-late":
        this.kill();
        return never;
      case "interrupted":
        this.#abort.abort(new Interrupted("stopped by SIGINT"));
        return run();
    }
  }

  /** An answer that arrives after the process was killed reaches nobody. */
  async #unlessDead(answer: unknown): Promise<unknown> {
    const value = await answer;
    return this.alive ? value : never;
  }
}

/** Ports answer with promises, but for these. */
const answersLater = (name: string): boolean => !/\.(privateAddress|logs|now|monotonic|setBack|pass)( |$)/.test(name);

const pathOf = (given: readonly unknown[]): string => {
  const request = given[1] as { path?: unknown } | undefined;
  return typeof request?.path === "string" ? ` ${request.path}` : typeof given[0] === "string" ? ` ${given[0]}` : "";
};
