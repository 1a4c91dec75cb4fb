import { at, parseJson } from "../preflight/json-value.js";

/** A layer as a registry sends it. */
export interface SentLayer {
  digest: string;
  /** Compressed. */
  bytes: number;
}

/** A manifest: the layers of one image, or the digest of the manifest for one's own machine. */
export type ImageManifest = { kind: "image"; layers: readonly SentLayer[] } | { kind: "list"; digest: string };

/**
 * Bytes that a layer takes once it is unpacked, for each byte that is sent, with what was sent beside it: PyTorch and CUDA unpack to
 * twice their size, a Debian to two and a half times. An estimate.
 */
const roomPerByte = 3;

/** `uname -m` in the words of image platforms. */
const architectures: Readonly<Record<string, string>> = { x86_64: "amd64", aarch64: "arm64" };

/** Reads `docker manifest inspect`; null for anything else, and for a list without an image for the machine. @param machine  `uname -m` */
export function readImageManifest(text: string, machine: string): ImageManifest | null {
  const parsed = parseJson(text);
  const layers = at(parsed, "layers");
  if (Array.isArray(layers)) {
    const read = layers.flatMap((layer: unknown) => {
      const [digest, bytes] = [at(layer, "digest"), at(layer, "size")];
      return typeof digest === "string" && typeof bytes === "number" ? [{ digest, bytes }] : [];
    });
    return read.length === layers.length ? { kind: "image", layers: read } : null;
  }
  const manifests = at(parsed, "manifests");
  if (!Array.isArray(manifests)) return null;
  const wanted = architectures[machine] ?? machine;
  const mine: unknown = manifests.find((each: unknown) => at(each, "platform", "architecture") === wanted);
  const digest = at(mine, "digest");
  return typeof digest === "string" ? { kind: "list", digest } : null;
}

/** Room that the layers of an image need which a host does not have yet, bytes. */
export function roomFor(layers: readonly SentLayer[], present: ReadonlySet<string>): number {
  const missing = new Map(layers.filter(({ digest }) => !present.has(digest)).map(({ digest, bytes }) => [digest, bytes]));
  return [...missing.values()].reduce((sum, bytes) => sum + bytes * roomPerByte, 0);
}
