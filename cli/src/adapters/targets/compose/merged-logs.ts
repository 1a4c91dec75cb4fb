import type { ServiceName } from "../../../domain/names.js";
import type { LogLine, NodeTarget } from "../../../ports.js";

/** The logs of all nodes: one after the other, and while they are followed as lines arrive. Every line names its node. */
export async function* mergedLogs(
  hosts: readonly NodeTarget[],
  services: readonly ServiceName[],
  options: { lines: number; follow: boolean },
  signal: AbortSignal,
): AsyncIterable<LogLine> {
  if (!options.follow) {
    for (const { node, driver } of hosts)
      for await (const line of driver.logs(services, options, signal)) yield { ...line, node };
    return;
  }
  const ended = new AbortController();
  const until = AbortSignal.any([signal, ended.signal]);
  const sources = hosts.map(({ node, driver }) => ({
    node,
    lines: driver.logs(services, options, until)[Symbol.asyncIterator](),
  }));
  type Source = (typeof sources)[number];
  const next = async (source: Source): Promise<{ source: Source; result: IteratorResult<LogLine> }> => ({
    source,
    result: await source.lines.next(),
  });
  const pending = new Map(sources.map((source) => [source, next(source)]));
  try {
    while (pending.size > 0) {
      const { source, result } = await Promise.race(pending.values());
      if (result.done === true) pending.delete(source);
      else {
        pending.set(source, next(source));
        yield { ...result.value, node: source.node };
      }
    }
  } finally {
    ended.abort();
    // Their ends are nobody's news any more.
    for (const each of pending.values()) each.catch(() => undefined);
  }
}
