import { mkdir, open, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { AuditEntry, AuditLog, Clock } from "../../ports.js";
import { errorCode, storageFailure } from "../state/storage-failure.js";
import { entryOf } from "./audit-line.js";

/** One JSON line per action in `audit.jsonl`; each is a single append, so that writers at the same time never mix. */
export class FileAuditLog implements AuditLog {
  readonly #file: string;
  readonly #author: string;
  readonly #clock: Clock;

  constructor(state: string, author: string, clock: Clock) {
    this.#file = join(state, "audit.jsonl");
    this.#author = author;
    this.#clock = clock;
  }

  async append(entry: Omit<AuditEntry, "at" | "author">): Promise<void> {
    const { action, release, detail } = entry;
    const line: AuditEntry = { at: this.#clock.now().toISOString(), author: this.#author, action, release, detail };
    try {
      await mkdir(dirname(this.#file), { recursive: true, mode: 0o700 });
      await this.#write(`${JSON.stringify(line)}\n`);
    } catch (error) {
      throw storageFailure("could not write the audit", this.#file, error);
    }
  }

  async read(last: number): Promise<readonly AuditEntry[]> {
    if (last <= 0) return [];
    const text = await readFile(this.#file, "utf8").catch((error: unknown) => {
      if (errorCode(error) === "ENOENT") return "";
      throw storageFailure("could not read the audit", this.#file, error);
    });
    return text
      .split("\n")
      .flatMap((line) => entryOf(line) ?? [])
      .slice(-last);
  }

  async #write(line: string): Promise<void> {
    const file = await open(this.#file, "a+", 0o600);
    try {
      const { size } = await file.stat();
      const end = Buffer.alloc(1);
      // A line torn by a crash or a full disk must not swallow the next one.
      if (size > 0) await file.read(end, 0, 1, size - 1);
      const torn = size > 0 && end[0] !== 0x0a;
      await file.write(torn ? `\n${line}` : line);
      await file.sync();
    } finally {
      await file.close();
    }
  }
}
