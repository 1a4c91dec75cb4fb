import { randomBytes } from "node:crypto";
import { Failed, TargetUnreachable } from "../../domain/errors.js";
import type { AuditEntry, AuditLog, Clock } from "../../ports.js";
import { entryOf } from "../audit/audit-line.js";
import { appendScript, readScript } from "./audit-scripts.js";
import type { HostState } from "./host-state.js";

/** A file is set aside above this size, and the one before it forgotten. */
const fileLimit = 1024 * 1024;
/** What every pipe and file system writes in one piece. */
const lineLimit = 4096;
/** Lines read beyond those asked for: some may be torn, foreign or repeated. */
const spareLines = 50;

/** An entry and the hosts that keep it. */
export interface HostAuditEntry extends AuditEntry {
  hosts: readonly string[];
}

/** The audit of an environment: a line in `audit.jsonl` on each of its hosts, told once and shown once. */
export class RemoteAuditLog implements AuditLog {
  readonly #all: readonly HostState[];
  readonly #author: string;
  readonly #clock: Clock;
  readonly #isRead: (host: string) => boolean;

  /** @param isRead  whether a host is asked and told; one that was given up would only be waited for */
  constructor(hosts: readonly HostState[], author: string, clock: Clock, isRead: (host: string) => boolean = () => true) {
    this.#all = [...hosts].sort((a, b) => (a.name < b.name ? -1 : 1));
    this.#author = author;
    this.#clock = clock;
    this.#isRead = isRead;
  }

  get #hosts(): readonly HostState[] {
    return this.#all.filter(({ name }) => this.#isRead(name));
  }

  /** Throws only when no host has taken the line: the others' lines tell what one that cannot be reached has missed. */
  async append(entry: Omit<AuditEntry, "at" | "author">): Promise<void> {
    const input = lineOf({ ...entry, at: this.#clock.now().toISOString(), author: this.#author });
    const args = [fileLimit.toString(), Buffer.byteLength(input).toString()];
    const failure = "the audit could not be written";
    const answers = await Promise.allSettled(this.#hosts.map((host) => host.run({ text: appendScript, args, input, failure })));
    const failed = answers.filter((answer) => answer.status === "rejected");
    if (failed[0] !== undefined && failed.length === answers.length) throw failed[0].reason;
  }

  /** By time. Hosts that cannot be reached are left out unless all are. */
  async read(last: number): Promise<readonly HostAuditEntry[]> {
    if (last <= 0) return [];
    const args = [(last + spareLines).toString()];
    const failure = "the audit could not be read";
    const hosts = this.#hosts;
    const answers = await Promise.allSettled(hosts.map((host) => host.run({ text: readScript, args, failure })));
    const entries = new Map<string, HostAuditEntry>();
    for (const [position, answer] of answers.entries())
      if (answer.status === "fulfilled") collect(answer.value, hosts[position]?.name ?? "", entries);
    const failed = answers.filter((answer) => answer.status === "rejected");
    const other = failed.find(({ reason }) => !(reason instanceof TargetUnreachable));
    const thrown = other ?? (failed.length === answers.length ? failed[0] : undefined);
    if (thrown !== undefined) throw thrown.reason;
    return [...entries.values()].sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0)).slice(-last);
  }
}

/** One line that fits into one write: a detail that is too long is cut, and says so. */
function lineOf(entry: AuditEntry): string {
  const id = randomBytes(9).toString("hex");
  const line = (detail: string): string => `${JSON.stringify({ ...entry, detail, id })}\n`;
  const whole = line(entry.detail);
  if (Buffer.byteLength(whole) <= lineLimit) return whole;
  for (let length = lineLimit; length > 0; length = Math.floor(length * 0.75)) {
    const cut = line(`${entry.detail.slice(0, length)} [cut]`);
    if (Buffer.byteLength(cut) <= lineLimit) return cut;
  }
  throw new Failed("an audit entry without a detail is too long", { data: { action: entry.action } });
}

/** A line that two hosts have, or one host twice because the connection was lost, is one entry. */
function collect(text: string, host: string, entries: Map<string, HostAuditEntry>): void {
  for (const line of text.split("\n")) {
    const entry = entryOf(line);
    if (entry === null) continue;
    const id = /"id":"([0-9a-f]{18})"\}$/.exec(line)?.[1] ?? `${host} ${line}`;
    const known = entries.get(id);
    if (known === undefined) entries.set(id, { ...entry, hosts: [host] });
    else if (!known.hosts.includes(host)) entries.set(id, { ...known, hosts: [...known.hosts, host] });
  }
}
