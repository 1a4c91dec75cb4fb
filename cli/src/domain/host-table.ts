import { instanceOf } from "./drift.js";
import { inOrder } from "./fingerprint.js";
import type { InstanceId, ReleaseId, ServiceName } from "./names.js";
import type { ReleaseRecord } from "./release.js";

/** What was seen on one host when a change was over. */
export interface HostSeen {
  node: string;
  /** Why nothing was seen there; null when it was looked at. */
  silent: string | null;
  /** Whether traffic was moved there, or may have been. */
  moved: boolean;
  /** Whether the change was told to pass it by, because it does not answer. */
  leftOut: boolean;
  /** Services that are to run there. */
  services: readonly ServiceName[];
  /** Instances that answer public traffic there, and the release that each was started by. */
  open: readonly { id: InstanceId; release: ReleaseId }[];
}

/**
 * `new`: the release of this change serves. `before`: what served before it serves. `mixed`: neither of them whole. `nothing`: nothing
 * answers. `left`: it cannot be asked, and was not touched, so what served goes on or is back with the host. `unknown`: it cannot be
 * asked, and traffic may have been moved there. `left-out`: it did not answer when the change began, and the change passed it by.
 */
type HostState = "new" | "before" | "mixed" | "nothing" | "left" | "left-out" | "unknown";

/** A line of the table that ends a change over several hosts. */
export interface HostRow {
  node: string;
  /** Release that served before; null for none. */
  before: ReleaseId | null;
  /** Release that serves now, or several with `and`; null for none, and when nobody knows. */
  now: string | null;
  state: HostState;
  detail: string;
}

/** What serves on each host, by what was seen there. */
export function hostTable(
  hosts: readonly HostSeen[],
  before: ReleaseRecord | null,
  candidate: ReleaseRecord | null,
): readonly HostRow[] {
  return hosts.map((host) => {
    // Where nothing can be asked, what is to run there is not known either.
    const ran = before !== null && (host.silent !== null || instancesOn(host, before).length > 0);
    const was = ran ? before.id : null;
    return { node: host.node, before: was, ...judge(host, before, candidate) };
  });
}

type Judged = Pick<HostRow, "now" | "state" | "detail">;

function judge(host: HostSeen, before: ReleaseRecord | null, candidate: ReleaseRecord | null): Judged {
  const { silent, moved, open } = host;
  if (host.leftOut) return { now: null, state: "left-out", detail: `left out, not known what serves: ${silent ?? ""}` };
  if (silent !== null)
    return moved
      ? { now: null, state: "unknown", detail: `not known what serves: ${silent}` }
      : { now: null, state: "left", detail: `traffic was not moved there, and now it cannot be asked: ${silent}` };
  if (candidate !== null && serves(host, candidate)) return { now: candidate.id, state: "new", detail: "serves" };
  if (before !== null && serves(host, before))
    return { now: before.id, state: "before", detail: moved ? "serves again, switched back" : "serves, as before" };
  if (open.length === 0) {
    const idle = before === null || instancesOn(host, before).length === 0;
    return { now: null, state: idle ? "before" : "nothing", detail: idle ? "nothing runs, as before" : "nothing answers" };
  }
  const now = [...new Set(open.map(({ release }) => release))].join(" and ");
  return { now, state: "mixed", detail: `answered by ${open.map(({ id }) => id).join(", ")}` };
}

/** Whether a release answers on a host, whole and alone. */
function serves(host: HostSeen, record: ReleaseRecord): boolean {
  const own = instancesOn(host, record);
  return own.length > 0 && own.length === host.open.length && own.every((id) => host.open.some((each) => each.id === id));
}

const instancesOn = ({ services }: HostSeen, record: ReleaseRecord): readonly InstanceId[] =>
  inOrder(record.services).flatMap(([service, release]) => (services.includes(service) ? [instanceOf(release)] : []));

/** Hosts that a change passed by: with them the environment may serve two releases. */
export const hostsLeftOut = (rows: readonly HostRow[]): readonly string[] =>
  rows.flatMap(({ node, state }) => (state === "left-out" ? [node] : []));
