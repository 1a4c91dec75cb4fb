import type { ServiceName } from "../../../domain/names.js";
import { ms } from "../../../domain/units.js";
import type { Clock, InstanceObservation, LogLine } from "../../../ports.js";
import type { HostCommands } from "./host-commands.js";

/** Instances that come later are looked for so often. */
const lookEvery = ms(1000);
/** A day: whoever follows for longer starts again. */
const followFor = ms(86_400_000);

/** Arguments: PROJECT-FILTER ENVIRONMENT-FILTER ID LINES. Both streams of a container as one, its last lines; nothing without a container. */
const tailing = `c=$(docker ps --all --quiet --no-trunc --filter "$1" --filter "$2" --filter "label=dev.gpuctl.instance=$3") || exit
if [ -n "$c" ]; then exec docker logs --tail "$4" "$c" 2>&1; fi`;

/** The same, and everything that comes until the container ends. */
const following = tailing.replace("logs --tail", "logs --follow --tail");

export interface LogSource {
  commands: HostCommands;
  filters: readonly string[];
  clock: Clock;
  instances(): Promise<readonly InstanceObservation[]>;
}

/** The last lines of one instance, also of one that has ended. */
export async function tailOf({ commands, filters }: LogSource, id: string, lines: number): Promise<readonly string[]> {
  const args = [...filters, id, lines.toString()];
  const text = await commands.look({ text: tailing, args, failure: `the log of ${id} could not be read` });
  return text.split("\n").filter((line) => line !== "");
}

export interface LogWish {
  services: readonly ServiceName[];
  lines: number;
  follow: boolean;
}

/** Lines of the instances that matter now and, when followed, of those that come later, as they come. */
export async function* containerLogs(source: LogSource, wish: LogWish, signal: AbortSignal): AsyncGenerator<LogLine> {
  if (!wish.follow) {
    for (const instance of relevant(await source.instances(), wish.services))
      for (const text of await tailOf(source, instance.id, wish.lines))
        yield { service: instance.service, instance: instance.id, text };
    return;
  }
  const merged = new MergedLines(source, wish);
  void merged.watch(signal);
  yield* merged.lines(signal);
}

/** What runs, and the last that ended of a service of which nothing runs. */
function relevant(instances: readonly InstanceObservation[], services: readonly ServiceName[]): readonly InstanceObservation[] {
  return services.flatMap((service) => {
    const all = instances.filter((each) => each.service === service);
    const running = all.filter(({ process }) => process.state === "running");
    // Docker lists the newest first.
    return running.length > 0 ? running : all.slice(0, 1);
  });
}

/** One `docker logs --follow` for each instance, their lines in the order in which they arrive. */
class MergedLines {
  readonly #source: LogSource;
  readonly #wish: LogWish;
  readonly #followed = new Set<string>();
  readonly #waiting: LogLine[] = [];
  #wake: () => void = () => undefined;
  #failure: Error | null = null;

  constructor(source: LogSource, wish: LogWish) {
    this.#source = source;
    this.#wish = wish;
  }

  /** Follows every instance there is and those that come, until aborted. */
  async watch(signal: AbortSignal): Promise<void> {
    let first = true;
    while (!signal.aborted) {
      try {
        const instances = await this.#source.instances();
        const shown = first ? relevant(instances, this.#wish.services) : instances;
        for (const instance of instances.filter(({ service }) => this.#wish.services.includes(service))) {
          if (this.#followed.has(instance.id)) continue;
          if (instance.process.state !== "running" && !shown.includes(instance)) continue;
          this.#followed.add(instance.id);
          void this.#follow(instance, first ? this.#wish.lines.toString() : "all", signal);
        }
        first = false;
      } catch (error) {
        this.#fail(error);
        return;
      }
      await this.#source.clock.sleep(lookEvery, signal).catch(() => undefined);
    }
    this.#wake();
  }

  async *lines(signal: AbortSignal): AsyncGenerator<LogLine> {
    const wake = (): void => this.#wake();
    signal.addEventListener("abort", wake);
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
      if (signal.aborted) resolve();
    });
  }

  /** Ends with the container. */
  async #follow({ id, service }: InstanceObservation, lines: string, signal: AbortSignal): Promise<void> {
    const { commands, filters } = this.#source;
    const command = { argv: ["sh", "-c", following, "gpuctl", ...filters, id, lines] as [string, ...string[]] };
    const onLine = (text: string): void => {
      if (text === "") return;
      this.#waiting.push({ service, instance: id, text });
      this.#wake();
    };
    try {
      await commands.attempt(command, { deadline: followFor, signal, onLine, output: "lines" });
    } catch (error) {
      if (!signal.aborted) this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.#failure = error instanceof Error ? error : new Error(String(error));
    this.#wake();
  }
}
