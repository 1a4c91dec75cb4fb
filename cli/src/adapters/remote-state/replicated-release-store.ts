import { createHmac } from "node:crypto";
import { canonicalJson } from "../../domain/canonical.js";
import { Failed, TargetUnreachable } from "../../domain/errors.js";
import type { ReleaseId, Sha256 } from "../../domain/names.js";
import type { ReleaseRecord } from "../../domain/release.js";
import type { RecordCopies, ReleaseStore, StoredReleases } from "../../ports.js";
import { onEach } from "./on-each.js";
import { compareCopies, mergeCopies, type HostRecords, type Versioned } from "./record-copies.js";
import type { ReleaseSecrets, RemoteReleaseFiles } from "./remote-release-files.js";
import { sharedKey } from "./shared-key.js";

/** The merged records, and how each host stands against them. */
export interface ReplicatedReleases extends StoredReleases {
  copies: readonly RecordCopies[];
}

/** What a command has to do with a host, by its name: whether it writes there, and whether it reads what is kept there for all. */
export interface HostUse {
  inUse: (host: string) => boolean;
  isRead: (host: string) => boolean;
}

const everyHost: HostUse = { inUse: () => true, isRead: () => true };

/**
 * Release records with a copy on every host of an environment, so that any machine with access can continue and any host can be
 * lost. Reading needs one host; writing needs all that are in use, and may be repeated until it has succeeded everywhere.
 */
export class ReplicatedReleaseStore implements ReleaseStore {
  readonly #all: readonly RemoteReleaseFiles[];
  readonly #use: HostUse;
  /** The newest copy of each release that this process has seen or tried to write. */
  readonly #known = new Map<ReleaseId, Versioned>();
  #key: Promise<Buffer> | null = null;

  constructor(hosts: readonly RemoteReleaseFiles[], use: HostUse = everyHost) {
    this.#all = [...hosts].sort((a, b) => (a.host < b.host ? -1 : 1));
    this.#use = use;
  }

  get #written(): readonly RemoteReleaseFiles[] {
    return this.#all.filter(({ host }) => this.#use.inUse(host));
  }

  get #read(): readonly RemoteReleaseFiles[] {
    return this.#all.filter(({ host }) => this.#use.isRead(host));
  }

  /** Throws TargetUnreachable when no host at all can be reached. */
  async list(): Promise<ReplicatedReleases> {
    const { found, unreachable } = await this.#look();
    const merged = mergeCopies(found);
    for (const copy of merged) this.#know(copy);
    const copies = [...compareCopies(found, merged), ...unreachable].sort((a, b) => (a.host < b.host ? -1 : 1));
    const damaged = found.flatMap((each) => each.damaged);
    return { records: merged.map(({ record }) => record), damaged, copies };
  }

  async create(record: ReleaseRecord, secrets: ReleaseSecrets): Promise<void> {
    const copy = { revision: 1, record };
    await onEach(this.#written, (host) => host.create(copy, secrets));
    this.#known.set(record.id, copy);
  }

  async update(record: ReleaseRecord): Promise<void> {
    const copy = await this.#nextOf(record);
    await onEach(this.#written, (host) => host.update(copy));
  }

  /** From the first host that has them: a host that was installed again keeps the record of none. */
  async secrets(id: ReleaseId): Promise<ReleaseSecrets> {
    const answers = await Promise.allSettled(this.#read.map((host) => host.secrets(id)));
    for (const answer of answers) if (answer.status === "fulfilled" && Object.keys(answer.value).length > 0) return answer.value;
    // To say that it has none would be a guess when a host could not be asked.
    const failed = answers.find((answer) => answer.status === "rejected");
    if (failed !== undefined) throw failed.reason;
    return {};
  }

  async remove(id: ReleaseId): Promise<void> {
    await onEach(this.#written, (host) => host.remove(id));
    this.#known.delete(id);
  }

  async hmac(value: string): Promise<Sha256> {
    const key = (this.#key ??= sharedKey(this.#read, this.#use.inUse));
    key.catch(() => (this.#key = null));
    return createHmac("sha256", await key)
      .update(value, "utf8")
      .digest("hex");
  }

  /**
   * Gives every host the records it lacks, with their secrets, and the newest copy of those it has in another one. Needs the lease
   * on all hosts. Returns what was done, a line each.
   */
  async complete(): Promise<readonly string[]> {
    const { found, unreachable } = await this.#look();
    const silent = unreachable.find(({ host }) => this.#use.inUse(host));
    if (silent !== undefined)
      throw new TargetUnreachable(`${silent.host} cannot be given its records`, {
        because: silent.because,
        data: { node: silent.host },
      });
    const merged = mergeCopies(found);
    const lines: string[] = [];
    for (const state of compareCopies(found, merged)) {
      const files = this.#written.find(({ host }) => host === state.host);
      if (files === undefined || state.state === "whole" || state.state === "unreachable") continue;
      const lacks = new Set(state.state === "blank" ? merged.map(({ record }) => record.id) : state.lacks);
      for (const copy of merged) lines.push(...(await this.#copyTo(files, copy, lacks, state)));
    }
    return lines;
  }

  async #copyTo(
    files: RemoteReleaseFiles,
    copy: Versioned,
    lacks: ReadonlySet<ReleaseId>,
    state: RecordCopies,
  ): Promise<readonly string[]> {
    const { id } = copy.record;
    if (lacks.has(id)) {
      // A file that cannot be trusted has the name; nothing of it is worth keeping.
      await files.remove(id);
      await files.create(copy, await this.secrets(id));
      return [`${files.host} got release ${id}`];
    }
    if (state.state !== "behind" || !state.differs.includes(id)) return [];
    await files.update(copy);
    return [`${files.host} got the newest record of release ${id}`];
  }

  /** A repeated update is the same revision, so that hosts that have it already stay as they are. */
  async #nextOf(record: ReleaseRecord): Promise<Versioned> {
    if (!this.#known.has(record.id)) await this.list();
    const known = this.#known.get(record.id);
    if (known === undefined) throw new Failed(`there is no release ${record.id} to complete`, { nextSteps: ["gpuctl releases"] });
    if (canonicalJson(known.record) === canonicalJson(record)) return known;
    const next = { revision: known.revision + 1, record };
    this.#known.set(record.id, next);
    return next;
  }

  #know(copy: Versioned): void {
    const known = this.#known.get(copy.record.id);
    if (known === undefined || copy.revision >= known.revision) this.#known.set(copy.record.id, copy);
  }

  async #look(): Promise<{ found: readonly HostRecords[]; unreachable: readonly (RecordCopies & { state: "unreachable" })[] }> {
    const hosts = this.#read;
    const answers = await Promise.allSettled(hosts.map((host) => host.list()));
    const found: HostRecords[] = [];
    const unreachable: (RecordCopies & { state: "unreachable" })[] = [];
    for (const [position, answer] of answers.entries()) {
      const host = hosts[position]?.host ?? "";
      if (answer.status === "fulfilled") found.push(answer.value);
      else if (answer.reason instanceof TargetUnreachable)
        unreachable.push({ host, state: "unreachable", because: answer.reason.because ?? answer.reason.message });
      else throw answer.reason;
    }
    if (found.length === 0) {
      const first = answers.find((answer) => answer.status === "rejected");
      throw first?.reason ?? new Failed("an environment without hosts keeps no records");
    }
    return { found, unreachable };
  }
}
