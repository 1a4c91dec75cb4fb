import { ConfigInvalid, Failed, PreflightRefused } from "../../cli/src/domain/errors.js";
import { sha256 } from "../../cli/src/domain/canonical.js";
import type { ReleaseId } from "../../cli/src/domain/names.js";
import type { ModelRef, ReleaseRecord } from "../../cli/src/domain/release.js";
import type { Milliseconds } from "../../cli/src/domain/units.js";
import type {
  AuditEntry,
  AuditLog,
  CodeSource,
  Lease,
  LeaseHolder,
  LeaseStore,
  ModelStore,
  ReleaseStore,
  SecretReader,
  StoredModel,
  StoredReleases,
} from "../../cli/src/ports.js";
import type { SecretSource } from "../../cli/src/domain/config/resolved.js";

type Secrets = Readonly<Record<string, Readonly<Record<string, string>>>>;

export class InMemoryReleases implements ReleaseStore {
  readonly records = new Map<ReleaseId, ReleaseRecord>();
  readonly kept = new Map<ReleaseId, Secrets>();
  damaged: { file: string; because: string }[] = [];

  list(): Promise<StoredReleases> {
    const records = [...this.records.values()].sort((a, b) => a.number - b.number);
    return Promise.resolve({ records, damaged: this.damaged });
  }

  create(record: ReleaseRecord, secrets: Secrets): Promise<void> {
    if (this.records.has(record.id)) throw new Failed(`${record.id} exists`);
    this.records.set(record.id, structuredClone(record));
    this.kept.set(record.id, structuredClone(secrets));
    return Promise.resolve();
  }

  update(record: ReleaseRecord): Promise<void> {
    if (!this.records.has(record.id)) throw new Failed(`${record.id} does not exist`);
    this.records.set(record.id, structuredClone(record));
    return Promise.resolve();
  }

  secrets(id: ReleaseId): Promise<Secrets> {
    return Promise.resolve(this.kept.get(id) ?? {});
  }

  remove(id: ReleaseId): Promise<void> {
    this.records.delete(id);
    this.kept.delete(id);
    return Promise.resolve();
  }

  hmac(value: string): Promise<string> {
    return Promise.resolve(sha256(`key of this environment: ${value}`));
  }
}

/** Leases of one machine. A holder whose process ended loses the lease to the next who asks. */
export class InMemoryLeases {
  holder: (LeaseHolder & { alive: () => boolean }) | null = null;
  #lastToken = 0;

  /** The store as one process sees it. */
  of(alive: () => boolean): LeaseStore {
    return {
      acquire: (command, wait) => this.#acquire(command, wait, alive),
      holder: () => Promise.resolve(this.holder === null ? null : this.#seen(this.holder)),
      break: (force) => {
        const held = this.holder;
        if (held === null || (held.alive() && !force)) return Promise.resolve(null);
        this.holder = null;
        return Promise.resolve(this.#seen(held));
      },
    };
  }

  #acquire(command: string, _wait: Milliseconds, alive: () => boolean): Promise<Lease> {
    if (this.holder?.alive() === true)
      return Promise.reject(new PreflightRefused(`${this.holder.command} of ${this.holder.owner} holds the lease`));
    this.#lastToken += 1;
    const token = this.#lastToken;
    this.holder = { token, owner: "ada@box", pid: token, command, since: "2026-01-05T09:00:00Z", state: "live", alive };
    const mine = (): boolean => this.holder?.token === token;
    return Promise.resolve({
      token,
      check: () =>
        mine() ? Promise.resolve() : Promise.reject(new Failed("the lease was lost", { because: "somebody else took it" })),
      release: () => {
        if (mine()) this.holder = null;
        return Promise.resolve();
      },
    });
  }

  #seen({ token, owner, pid, command, since, alive }: LeaseHolder & { alive: () => boolean }): LeaseHolder {
    return { token, owner, pid, command, since, state: alive() ? "live" : "gone" };
  }
}

export class InMemoryAudit implements AuditLog {
  readonly entries: AuditEntry[] = [];

  append(entry: Omit<AuditEntry, "at" | "author">): Promise<void> {
    this.entries.push({ ...entry, at: "2026-01-05T09:00:00Z", author: "ada@box" });
    return Promise.resolve();
  }

  read(last: number): Promise<readonly AuditEntry[]> {
    return Promise.resolve(this.entries.slice(-last));
  }
}

export class FixedModels implements ModelStore {
  readonly models: Map<string, StoredModel>;
  constructor(models: readonly StoredModel[]) {
    this.models = new Map(models.map((model) => [model.ref.name, model]));
  }

  list(): Promise<readonly StoredModel[]> {
    return Promise.resolve([...this.models.values()]);
  }

  resolve(name: string): Promise<StoredModel> {
    const model = this.models.get(name);
    return model === undefined
      ? Promise.reject(new PreflightRefused(`model ${name} is not here`, { nextSteps: ["gpuctl models fetch"] }))
      : Promise.resolve(model);
  }

  find(ref: ModelRef): Promise<StoredModel | null> {
    return Promise.resolve(this.models.get(ref.name) ?? null);
  }

  verify(): Promise<readonly { file: string; because: string }[]> {
    return Promise.resolve([]);
  }
}

export class FixedCode implements CodeSource {
  wheel = "wheel-one";
  lock = "lock-one";

  current(): Promise<{ wheel: string; file: string; version: string; lock: string }> {
    return Promise.resolve({
      wheel: this.wheel,
      file: "gpuctl_serving-0.1.0-py3-none-any.whl",
      version: "0.1.0",
      lock: this.lock,
    });
  }
}

export class SecretsInMemory implements SecretReader {
  readonly values = new Map<string, string>();

  read(name: string, source: SecretSource): Promise<string> {
    const [key = ""] = Object.values(source);
    const value = this.values.get(key);
    return value === undefined
      ? Promise.reject(new ConfigInvalid(`secret ${name} is missing`, { because: `${key} is not set` }))
      : Promise.resolve(value);
  }
}
