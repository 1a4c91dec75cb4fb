import type { ServiceName } from "../../../domain/names.js";
import type { Clock, InstanceObservation, LogLine } from "../../../ports.js";
import { FollowedLogs } from "./followed-logs.js";
import type { HostCommands } from "./host-commands.js";

/** Arguments: PROJECT-FILTER ENVIRONMENT-FILTER ID LINES. Both streams of a container as one, its last lines; nothing without a container. */
const tailing = `c=$(docker ps --all --quiet --no-trunc --filter "$1" --filter "$2" --filter "label=dev.gpuctl.instance=$3") || exit
if [ -n "$c" ]; then exec docker logs --tail "$4" "$c" 2>&1; fi`;

export interface LogSource {
  commands: HostCommands;
  filters: readonly string[];
  clock: Clock;
  /** What is there now. Throws when the engine does not answer. */
  instances(): Promise<readonly InstanceObservation[]>;
  /** Something worth knowing beside the lines. */
  tell(text: string): void;
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
  yield* new FollowedLogs(source, wish).lines(signal);
}

/** What runs, and the last that ended of a service of which nothing runs. */
export function relevant(
  instances: readonly InstanceObservation[],
  services: readonly ServiceName[],
): readonly InstanceObservation[] {
  return services.flatMap((service) => {
    const all = instances.filter((each) => each.service === service);
    const running = all.filter(({ process }) => process.state === "running");
    // Docker lists the newest first.
    return running.length > 0 ? running : all.slice(0, 1);
  });
}
