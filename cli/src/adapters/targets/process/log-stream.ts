import { ms } from "../../../domain/units.js";
import type { ServiceName } from "../../../domain/names.js";
import type { Clock, LogLine } from "../../../ports.js";
import { type InstanceLog, instanceLogs, lastLines, LogFollower } from "./log-files.js";

export interface LogRequest {
  directory: string;
  services: readonly ServiceName[];
  lines: number;
  follow: boolean;
  /** Instances that run now; an ended one is shown when its service has none, or when it wrote last. */
  running: ReadonlySet<string>;
}

const pollMs = ms(150);

/** The last lines of the instances that matter now and, when followed, everything they and later instances write. */
export async function* logLines(request: LogRequest, clock: Clock, signal: AbortSignal): AsyncGenerator<LogLine> {
  const followers = new Map<string, LogFollower>();
  const logs = await wanted(request);
  const shown = new Set(relevant(logs, request.running));
  for (const log of logs) {
    const follower = await LogFollower.fromEnd(log.file);
    followers.set(log.instance, follower);
    if (shown.has(log)) yield* asLines(log, await lastLines(log.file, request.lines, follower.position));
  }
  while (request.follow && !signal.aborted) {
    for (const log of await wanted(request)) {
      const follower = followers.get(log.instance) ?? LogFollower.fromStart(log.file);
      followers.set(log.instance, follower);
      yield* asLines(log, await follower.read());
    }
    await clock.sleep(pollMs, signal).catch(() => undefined);
  }
}

async function wanted({ directory, services }: LogRequest): Promise<readonly InstanceLog[]> {
  return (await instanceLogs(directory)).filter((log) => services.includes(log.service));
}

function relevant(logs: readonly InstanceLog[], running: ReadonlySet<string>): readonly InstanceLog[] {
  const newest = new Map(logs.map((log) => [log.service, log.instance]));
  return logs.filter((log) => running.has(log.instance) || newest.get(log.service) === log.instance);
}

const asLines = ({ service, instance }: InstanceLog, lines: readonly string[]): LogLine[] =>
  lines.map((text) => ({ service, instance, text }));
