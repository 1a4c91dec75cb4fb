import { randomBytes } from "node:crypto";
import { Failed } from "../../domain/errors.js";
import type { ReleaseId } from "../../domain/names.js";
import { seal, unseal } from "../releases/checksummed.js";
import { recordName, safeId } from "../releases/record-file.js";
import type { HostState } from "./host-state.js";
import { readVersion, sealVersion, type HostRecords, type Versioned } from "./record-copies.js";
import { createScript, keyScript, listScript, removeScript, secretsScript, updateScript } from "./release-scripts.js";
import { statuses } from "./script-parts.js";

/** Secret values by service and name. */
export type ReleaseSecrets = Readonly<Record<string, Readonly<Record<string, string>>>>;

/**
 * Release records of one environment on one host: `releases/<id>.json` and `<id>.secrets.json`, root's alone, each operation one
 * script. Writes need the lease on that host and are refused there when a newer one exists.
 */
export class RemoteReleaseFiles {
  readonly #host: HostState;

  constructor(host: HostState) {
    this.#host = host;
  }

  /** The host's name. */
  get host(): string {
    return this.#host.name;
  }

  async list(): Promise<HostRecords> {
    const mark = randomBytes(12).toString("hex");
    const text = await this.#host.run({ text: listScript, args: [mark], failure: "the release records could not be read" });
    if (!text.endsWith(`${mark} end\n`)) throw new Failed(`${this.host} gave only a part of its release records`);
    const copies: Versioned[] = [];
    const damaged: { file: string; because: string }[] = [];
    for (const part of text.slice(0, -`${mark} end\n`.length).split(`${mark} `).slice(1)) {
      const line = part.indexOf("\n");
      const [kind, name = ""] = part.slice(0, line).split(" ");
      if (!recordName.test(name)) continue;
      const read =
        kind === "file" ? readVersion(part.slice(line + 1), name) : { ok: false as const, because: "it is no plain file" };
      if (read.ok) copies.push(read.copy);
      else damaged.push({ file: `${this.host}:${this.#host.root}/releases/${name}`, because: read.because });
    }
    return { host: this.host, copies, damaged };
  }

  /** Writes a record that must not exist, with its secrets. Throws Failed when another one has its id. */
  async create(copy: Versioned, secrets: ReleaseSecrets): Promise<void> {
    const { id } = copy.record;
    const holdsSecrets = Object.values(secrets).some((values) => Object.keys(values).length > 0);
    const input = `${seal(secrets)}${sealVersion(copy)}`;
    await this.#host.run({
      text: createScript,
      args: [...this.#fenced(id), Buffer.byteLength(input).toString(), holdsSecrets ? "1" : "0"],
      input,
      failure: `the record of release ${id} could not be written`,
      refusals: {
        [statuses.exists]: () =>
          new Failed(`release ${id} exists already on ${this.host}`, {
            nextSteps: ["gpuctl releases"],
            data: { node: this.host },
          }),
      },
    });
  }

  /** Replaces the record of the same id. Throws Failed when there is none: it would have no secrets. */
  async update(copy: Versioned): Promise<void> {
    const { id } = copy.record;
    const input = sealVersion(copy);
    await this.#host.run({
      text: updateScript,
      args: [...this.#fenced(id), Buffer.byteLength(input).toString()],
      input,
      failure: `the record of release ${id} could not be completed`,
      refusals: {
        [statuses.missing]: () =>
          new Failed(`${this.host} keeps no record of release ${id}`, {
            because: "it was installed again, or somebody removed it",
            nextSteps: ["gpuctl releases", "gpuctl repair"],
            data: { node: this.host },
          }),
      },
    });
  }

  /** Empty for a release without secrets, and where there is none. */
  async secrets(id: ReleaseId): Promise<ReleaseSecrets> {
    const failure = `the secrets of release ${id} could not be read`;
    const text = await this.#host.run({ text: secretsScript, args: [safeId(id)], failure });
    if (text === "") return {};
    const found = unseal(text);
    if (found.ok) return found.body as ReleaseSecrets;
    throw new Failed(`the secrets of release ${id} on ${this.host} cannot be trusted`, {
      because: found.because,
      nextSteps: ["gpuctl deploy, which reads today's values", "or roll back to another release: gpuctl releases"],
      data: { node: this.host },
    });
  }

  async remove(id: ReleaseId): Promise<void> {
    const failure = `the record of release ${id} could not be removed`;
    await this.#host.run({ text: removeScript, args: this.#fenced(id), failure });
  }

  /** The environment's key on this host as it lies there, hex; `candidate` becomes it when there is none. */
  async key(candidate: string | null): Promise<string | null> {
    const input = candidate === null ? "" : `${candidate}\n`;
    const args = [Buffer.byteLength(input).toString()];
    const failure = "the key of this environment could not be read or made";
    const text = (await this.#host.run({ text: keyScript, args, input, failure })).trim();
    return text === "" && candidate === null ? null : text;
  }

  /** Where the key lies, for messages. */
  get keyFile(): string {
    return `${this.#host.root}/hmac.key`;
  }

  #fenced(id: ReleaseId): readonly string[] {
    const { token, nonce } = this.#host.heldFence();
    return [safeId(id), this.#host.proc, token.toString(), nonce];
  }
}
