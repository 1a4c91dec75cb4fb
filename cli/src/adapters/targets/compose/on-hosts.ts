import { TargetUnreachable } from "../../../domain/errors.js";
import type { Milliseconds } from "../../../domain/units.js";
import type { Nodes, NodeTarget } from "../../../ports.js";

/** On all at once; ends when all have ended, with the first failure of the order in which they are given. */
export async function fanOut<T>(
  hosts: readonly NodeTarget[],
  nodes: Pick<Nodes, "blame">,
  work: (host: NodeTarget) => Promise<T>,
): Promise<readonly T[]> {
  const answers = await Promise.allSettled(hosts.map(work));
  for (const [position, answer] of answers.entries())
    if (answer.status === "rejected") nodes.blame(answer.reason, hosts[position]?.node ?? "");
  return answers.map((answer) => {
    if (answer.status === "rejected") throw answer.reason;
    return answer.value;
  });
}

/**
 * In which order hosts take over what stands before the instances, a step each: those that nobody notices at once, then one at a time
 * those whose listeners are made anew. The ingress follows the first of these: before, no host has the new ports yet, and after the
 * last none has the old ones.
 */
export function turnsOf(
  hosts: readonly NodeTarget[],
  restarting: readonly string[],
  ingress: string | undefined,
): readonly (readonly NodeTarget[])[] {
  if (restarting.length === 0) return [hosts];
  const calm = hosts.filter(({ node }) => !restarting.includes(node) && node !== ingress);
  const [first = [], ...rest] = hosts.filter(({ node }) => restarting.includes(node) && node !== ingress).map((host) => [host]);
  const front = hosts.filter(({ node }) => node === ingress);
  return [calm, first, front, ...rest].filter((turn) => turn.length > 0);
}

/** What those said that can be reached. Throws when none can. */
export async function reachable<T>(
  hosts: readonly NodeTarget[],
  work: (host: NodeTarget) => Promise<T>,
): Promise<readonly { value: T }[]> {
  const answers = await Promise.allSettled(hosts.map(work));
  const failed = answers.filter((answer) => answer.status === "rejected");
  const grave =
    failed.find(({ reason }) => !(reason instanceof TargetUnreachable)) ??
    (failed.length === hosts.length ? failed[0] : undefined);
  if (grave !== undefined) throw grave.reason;
  return answers.flatMap((answer) => (answer.status === "fulfilled" ? [{ value: answer.value }] : []));
}

/** A host that goes on saying nothing is as good as one that cannot be reached. */
export async function inTime<T>(node: string, limit: Milliseconds, answer: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const because = `it said nothing for ${limit / 1000} s`;
      reject(new TargetUnreachable(`${node} does not answer`, { because, nextSteps: ["gpuctl doctor"], data: { node } }));
    }, limit);
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
