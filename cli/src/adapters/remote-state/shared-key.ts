import { randomBytes } from "node:crypto";
import { Failed, TargetUnreachable } from "../../domain/errors.js";
import type { RemoteReleaseFiles } from "./remote-release-files.js";

const keyBytes = 32;

/**
 * The key by which an environment tells that a secret changed, the same on all its hosts. The key that most hosts have is used, and
 * given to those that have none; where none has one, the first host by name decides, so that two operators at once agree.
 * @param hosts  by name
 * @param inUse  whether a host is to get the key; one that is not, and cannot be reached, is passed over
 */
export async function sharedKey(
  hosts: readonly RemoteReleaseFiles[],
  inUse: (host: string) => boolean = () => true,
): Promise<Buffer> {
  const first = hosts.find(({ host }) => inUse(host));
  if (first === undefined) throw new Failed("an environment without hosts has no key");
  const answers = await Promise.allSettled(hosts.map(async (host) => ({ host, key: await host.key(null) })));
  const present = answers.flatMap((answer, position) => {
    if (answer.status === "fulfilled") return [answer.value];
    if (answer.reason instanceof TargetUnreachable && !inUse(hosts[position]?.host ?? "")) return [];
    throw answer.reason;
  });
  const key = mostCommon(present.flatMap((each) => each.key ?? [])) ?? (await first.key(randomBytes(keyBytes).toString("hex")));
  const bytes = Buffer.from(key ?? "", "hex");
  if (key === null || bytes.length !== keyBytes) {
    const { host } = present.find((each) => each.key === key) ?? { host: first };
    throw new Failed(`the key of this environment on ${host.host} is damaged: ${host.keyFile}`, {
      because: `it holds ${bytes.length} bytes instead of ${keyBytes}`,
      nextSteps: [`rm ${host.keyFile}   # on ${host.host}`, "then deploy again: every secret may count as changed once"],
      data: { node: host.host },
    });
  }
  await Promise.all(present.filter((each) => each.key === null && inUse(each.host.host)).map(({ host }) => host.key(key)));
  return bytes;
}

/** Of two that are as common the one that comes first. */
function mostCommon(values: readonly string[]): string | null {
  const count = (value: string): number => values.filter((each) => each === value).length;
  return values.reduce<string | null>((best, each) => (best === null || count(each) > count(best) ? each : best), null);
}
