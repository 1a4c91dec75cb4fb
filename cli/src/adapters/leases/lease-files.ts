import { open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createOnce } from "../state/create-once.js";
import { errorCode } from "../state/storage-failure.js";

/** What `leases/<token>.json` says. */
export interface LeaseEntry {
  token: number;
  owner: string;
  pid: number;
  startTime: number;
  bootId: string;
  command: string;
  /** For people; expiry goes by `beat`. */
  since: string;
  /** Monotonic milliseconds of the newest heartbeat. */
  beat: number;
  released: boolean;
}

const leaseName = /^(\d{8,})\.json$/;
/** Old leases that are kept: enough to read what happened, few enough to list at every heartbeat. */
const kept = 8;
const beatWidth = 20;

/**
 * The lease directory. The highest token is the current lease; a token is taken by creating its file, which only one
 * process can do, and is never used twice because the newest files are never removed.
 */
export class LeaseFiles {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** The newest lease, or null when there never was one. */
  async newest(): Promise<LeaseEntry | null> {
    for (const token of (await this.tokens()).reverse()) {
      const entry = await this.#read(token);
      if (entry !== null) return entry;
    }
    return null;
  }

  /** Every token that has a file, lowest first. */
  async tokens(): Promise<number[]> {
    const names = await readdir(this.#directory).catch((error: unknown) => {
      if (errorCode(error) === "ENOENT") return [];
      throw error;
    });
    return names
      .flatMap((name) => leaseName.exec(name)?.[1] ?? [])
      .map(Number)
      .sort((a, b) => a - b);
  }

  /** Answers false when somebody else has this token, or a newer one. */
  async take(entry: Omit<LeaseEntry, "released">): Promise<boolean> {
    if (!(await createOnce(this.#file(entry.token, "json"), `${JSON.stringify(entry)}\n`))) return false;
    // A process that slept between looking and creating may have made an old token whose file was pruned.
    return (await this.tokens()).at(-1) === entry.token;
  }

  /** Overwrites in place with a fixed width: works on a full disk, and a reader never sees half a number. */
  async beat(token: number, monotonic: number): Promise<void> {
    const file = await open(this.#file(token, "beat"), "a+").then(async (created) => {
      await created.close();
      return open(this.#file(token, "beat"), "r+");
    });
    try {
      await file.write(monotonic.toFixed(3).padStart(beatWidth, "0"), 0);
    } finally {
      await file.close();
    }
  }

  async release(token: number): Promise<void> {
    await writeFile(this.#file(token, "released"), "", { flag: "a", mode: 0o600 });
  }

  /** Removes all but the newest few. */
  async prune(): Promise<void> {
    for (const token of (await this.tokens()).slice(0, -kept)) {
      for (const kind of ["beat", "released", "json"] as const) await rm(this.#file(token, kind), { force: true });
    }
  }

  async #read(token: number): Promise<LeaseEntry | null> {
    const text = await readFile(this.#file(token, "json"), "utf8").catch(absent);
    if (text === null) return null;
    const beat = Number(await readFile(this.#file(token, "beat"), "utf8").catch(absent));
    const released = (await readFile(this.#file(token, "released"), "utf8").catch(absent)) !== null;
    const entry = parse(text, token);
    return { ...entry, released, beat: Number.isFinite(beat) ? Math.max(entry.beat, beat) : entry.beat };
  }

  #file(token: number, kind: "json" | "beat" | "released"): string {
    return join(this.#directory, `${token.toString().padStart(8, "0")}.${kind}`);
  }
}

function absent(error: unknown): null {
  if (errorCode(error) === "ENOENT") return null;
  throw error;
}

/** A lease file that cannot be read still holds its token; nobody can be shown to hold it, so it counts as gone. */
function parse(text: string, token: number): Omit<LeaseEntry, "released"> {
  const nobody = { token, owner: "unknown", pid: 0, startTime: 0, bootId: "", command: "unknown", since: "", beat: 0 };
  try {
    const value = JSON.parse(text) as Partial<LeaseEntry> | null;
    return typeof value === "object" && value !== null ? { ...nobody, ...value, token } : nobody;
  } catch {
    return nobody;
  }
}
