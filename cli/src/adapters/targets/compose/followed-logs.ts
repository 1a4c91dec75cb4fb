import { TargetUnreachable, Failed } from "../../../domain/errors.js";
import { ms } from "../../../domain/units.js";
import type { InstanceObservation, LogLine } from "../../../ports.js";
import { relevant, type LogSource, type LogWish } from "./container-logs.js";
import { LogPosition } from "./log-position.js";

/** Instances that come, go and come back are looked for so often. */
const lookEvery = ms(1000);
/** A day: whoever follows for longer starts again. */
const followFor = ms(86_400_000);

/**
 * Arguments: PROJECT-FILTER ENVIRONMENT-FILTER ID, then options of `docker logs`. Both streams of a container as one, with the time of
 * each line, until the container ends.
 */
const following = `fp=$1 fe=$2 id=$3; shift 3
c=$(docker ps --all --quiet --no-trunc --filter "$fp" --filter "$fe" --filter "label=dev.gpuctl.instance=$id") || exit
if [ -n "$c" ]; then exec docker logs --timestamps "$@" "$c" 2>&1; fi`;

/** One instance whose log is read, perhaps in several goes: it ends with its container, with Docker, with the connection. */
interface Followed {
  position: LogPosition;
  /** State of the container when reading began last: in another one it may have said more. */
  state: string;
  reading: boolean;
}

/**
 * The lines of every instance in the order in which they arrive. A container, an engine, a host or a connection that is gone for a
 * while is waited for; then it goes on where it was.
 */
export class FollowedLogs {
  readonly #source: LogSource;
  readonly #wish: LogWish;
  readonly #known = new Map<string, Followed>();
  readonly #waiting: LogLine[] = [];
  #wake: () => void = () => undefined;
  #failure: Error | null = null;
  #looked = false;
  #silent = false;

  constructor(source: LogSource, wish: LogWish) {
    this.#source = source;
    this.#wish = wish;
  }

  async *lines(signal: AbortSignal): AsyncGenerator<LogLine> {
    const wake = (): void => this.#wake();
    signal.addEventListener("abort", wake);
    void this.#watch(signal);
    try {
      while (!signal.aborted) {
        yield* this.#waiting.splice(0);
        if (this.#failure !== null) throw this.#failure;
        if (this.#waiting.length === 0) await this.#next(signal);
      }
    } finally {
      signal.removeEventListener("abort", wake);
    }
  }

  /** Until a line arrives, following fails, or nobody wants more. */
  #next(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
      if (signal.aborted || this.#waiting.length > 0 || this.#failure !== null) resolve();
    });
  }

  async #watch(signal: AbortSignal): Promise<void> {
    const over = (): boolean => signal.aborted;
    while (!over()) {
      try {
        await this.#look(signal);
        this.#heard();
      } catch (error) {
        if (over()) return;
        if (!this.#looked || !passes(error)) {
          this.#failure = error instanceof Error ? error : new Error(String(error));
          this.#wake();
          return;
        }
        this.#lost(error);
      }
      await this.#source.clock.sleep(lookEvery, signal).catch(() => undefined);
    }
  }

  async #look(signal: AbortSignal): Promise<void> {
    const all = (await this.#source.instances()).filter(({ service }) => this.#wish.services.includes(service));
    const shown = this.#looked ? all : relevant(all, this.#wish.services);
    for (const instance of all) {
      const known = this.#known.get(instance.id);
      if (known !== undefined) this.#readOn(instance, known, [], signal);
      else if (shown.includes(instance)) this.#readOn(instance, this.#meet(instance, ""), this.#beginning(), signal);
      else await this.#passOver(instance, signal);
    }
    this.#looked = true;
  }

  #meet({ id }: InstanceObservation, state: string): Followed {
    const followed = { position: new LogPosition(), state, reading: false };
    this.#known.set(id, followed);
    return followed;
  }

  /** The last lines of what is there already, all of what comes later. */
  #beginning(): readonly string[] {
    return ["--tail", this.#looked ? "all" : this.#wish.lines.toString()];
  }

  /** It ended before anybody followed it: only what it says from now on matters, should it be started again. */
  async #passOver(instance: InstanceObservation, signal: AbortSignal): Promise<void> {
    const { position } = this.#meet(instance, stateOf(instance));
    const { commands, filters } = this.#source;
    const args = [...filters, instance.id, "--tail", "1"];
    const last = await commands.look({ text: following, args, failure: `the log of ${instance.id} could not be read`, signal });
    for (const line of last.split("\n")) if (line !== "") position.accept(line);
  }

  #readOn(instance: InstanceObservation, followed: Followed, beginning: readonly string[], signal: AbortSignal): void {
    const state = stateOf(instance);
    if (followed.reading || (instance.process.state !== "running" && followed.state === state)) return;
    followed.reading = true;
    followed.state = state;
    const since = followed.position.begin();
    const options = since === null ? (beginning.length > 0 ? beginning : ["--tail", "all"]) : ["--since", since];
    void this.#read(instance, followed, options, signal);
  }

  /** Ends with the container, and with whatever leads there. */
  async #read(instance: InstanceObservation, followed: Followed, options: readonly string[], signal: AbortSignal): Promise<void> {
    const { commands, filters } = this.#source;
    const { id, service } = instance;
    const argv = ["sh", "-c", following, "gpuctl", ...filters, id, "--follow", ...options] as const;
    const onLine = (line: string): void => {
      const text = followed.position.accept(line);
      if (text === null || text === "") return;
      this.#waiting.push({ service, instance: id, text });
      this.#wake();
    };
    try {
      const { code } = await commands.attempt({ argv }, { deadline: followFor, signal, onLine, output: "lines" });
      if (code !== 0) followed.state = "";
    } catch (error) {
      followed.state = "";
      if (signal.aborted) return;
      if (passes(error)) this.#lost(error);
      else this.#failure = error as Error;
      this.#wake();
    } finally {
      followed.reading = false;
    }
  }

  #lost(error: Error): void {
    if (this.#silent) return;
    this.#silent = true;
    this.#source.tell(`the logs of ${this.#source.commands.node} are waited for: ${error.message}`);
  }

  #heard(): void {
    if (this.#silent) this.#source.tell(`the logs of ${this.#source.commands.node} go on`);
    this.#silent = false;
  }
}

const stateOf = ({ process, restarts }: InstanceObservation): string => JSON.stringify([process, restarts]);

/** An engine that is being restarted and a host that is being booted come back. */
const passes = (error: unknown): error is Error => error instanceof TargetUnreachable || error instanceof Failed;
