import type { AuditEntry, AuditLog, Clock } from "../../ports.js";
import type { HostState } from "./host-state.js";
import { RemoteAuditLog } from "./remote-audit-log.js";
import { begin } from "./script-parts.js";

/** Prints a word when there is state on the host. */
const asking = `${begin}
if [ -d "$root" ]; then echo kept; fi`;

/** The audit of an environment on the hosts that keep one already: what is only looked at and mended must not look deployed. */
export class ExistingAudit implements Pick<AuditLog, "append"> {
  readonly #hosts: readonly HostState[];
  readonly #author: string;
  readonly #clock: Clock;

  constructor(hosts: readonly HostState[], author: string, clock: Clock) {
    this.#hosts = hosts;
    this.#author = author;
    this.#clock = clock;
  }

  /** Throws when no host that could take the line has taken it. A host that cannot be asked is left out. */
  async append(entry: Omit<AuditEntry, "at" | "author">): Promise<void> {
    const kept = await Promise.all(this.#hosts.map(async (host) => ((await keepsState(host)) ? [host] : [])));
    const hosts = kept.flat();
    if (hosts.length > 0) await new RemoteAuditLog(hosts, this.#author, this.#clock).append(entry);
  }
}

async function keepsState(host: HostState): Promise<boolean> {
  const looking = host.run({ text: asking, args: [], failure: "the state of the environment could not be looked for" });
  return looking.then(
    (said) => said.trim() === "kept",
    () => false,
  );
}
