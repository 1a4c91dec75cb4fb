import type { SentLayer } from "./image-manifest.js";

/** How much of a pull is done. */
export interface PullAmount {
  label: string;
  done: number;
  total: number;
  unit: "bytes" | "layers";
}

/** As Docker names a layer in what it prints: the beginning of its digest. */
const idOf = (digest: string): string => digest.replace("sha256:", "").slice(0, 12);

/**
 * Reads what `docker pull` prints where it has no terminal: each layer as it is downloaded and as it is unpacked, and never how much of
 * one. Counts bytes, a whole layer at a time, where the registry told how long the layers are; else layers.
 */
export class PullMeter {
  readonly #what: string;
  readonly #bytes: ReadonlyMap<string, number>;
  readonly #seen = new Set<string>();
  readonly #downloaded = new Set<string>();
  readonly #unpacked = new Set<string>();

  /** @param what  what is pulled, and where to @param layers  as the registry tells them; none when it told nothing */
  constructor(what: string, layers: readonly SentLayer[]) {
    this.#what = what;
    this.#bytes = new Map(layers.map(({ digest, bytes }) => [idOf(digest), bytes]));
  }

  /** Takes one line; gives how far the pull is when the line says something of a layer. */
  line(text: string): PullAmount | null {
    const [, layer = "", state = ""] = /^([0-9a-f]{12}): (.+)$/.exec(text) ?? [];
    // A containerd store names configuration and manifest in the same way.
    if (layer === "" || (this.#bytes.size > 0 && !this.#bytes.has(layer))) return null;
    const wasDownloaded = this.#inBytes(this.#downloaded) === this.#total;
    this.#seen.add(layer);
    if (/^(?:Download complete|Pull complete|Already exists)/.test(state)) this.#downloaded.add(layer);
    if (/^(?:Pull complete|Already exists)/.test(state)) this.#unpacked.add(layer);
    if (this.#bytes.size === 0)
      return { label: `pulling ${this.#what}`, done: this.#unpacked.size, total: this.#seen.size, unit: "layers" };
    const [doing, done] = wasDownloaded ? ["unpacking", this.#unpacked] : ["pulling", this.#downloaded];
    return { label: `${doing} ${this.#what}`, done: this.#inBytes(done), total: this.#total, unit: "bytes" };
  }

  get #total(): number {
    return this.#inBytes(this.#bytes.keys());
  }

  #inBytes(layers: Iterable<string>): number {
    return [...layers].reduce((sum, layer) => sum + (this.#bytes.get(layer) ?? 0), 0);
  }
}
