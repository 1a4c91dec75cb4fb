import { createHash } from "node:crypto";
import { hostName, isAbout, typeOfKey, type KnownHost } from "./known-hosts.js";

/** A key that known_hosts has for a host. */
export interface PinnedKey {
  at: string;
  type: string;
  fingerprint: string;
}

/** What known_hosts says about the key that a host has shown. */
export type HostKeyVerdict =
  | { kind: "known"; at: string }
  /** `authority`: lines that trust a certificate authority for this host, which only the system's ssh can use. */
  | { kind: "unknown"; authority: string | null }
  | { kind: "changed"; pinned: readonly PinnedKey[] }
  | { kind: "revoked"; at: string };

/** `SHA256:…` as ssh and ssh-keygen print it. */
export function fingerprintOf(key: Buffer): string {
  return `SHA256:${createHash("sha256").update(key).digest("base64").replace(/=+$/, "")}`;
}

/**
 * Judges the key a host has shown. Another type of key than the known ones counts as changed: we ask for the known types first,
 * so only a host that has lost its key, or is another, shows it. At a port of its own the plain name may vouch for the key but
 * never against it, as in ssh.
 */
export function judgeHostKey(known: readonly KnownHost[], host: { name: string; port: number }, key: Buffer): HostKeyVerdict {
  const own = linesAbout(known, hostName(host.name, host.port));
  const plain = host.port === 22 ? [] : linesAbout(known, hostName(host.name, 22));
  const revoked = [...own, ...plain].find((entry) => entry.marker === "revoked" && entry.key.equals(key));
  if (revoked !== undefined) return { kind: "revoked", at: revoked.at };
  const same = [...own, ...plain].find((entry) => entry.marker === null && entry.key.equals(key));
  if (same !== undefined) return { kind: "known", at: same.at };
  const pinned = own.filter((entry) => entry.marker === null);
  if (pinned.length > 0) return { kind: "changed", pinned: pinned.map(pinnedKey) };
  return { kind: "unknown", authority: own.find((entry) => entry.marker === "cert-authority")?.at ?? null };
}

function linesAbout(known: readonly KnownHost[], name: string): readonly KnownHost[] {
  return known.filter((entry) => isAbout(entry, name));
}

function pinnedKey(entry: KnownHost): PinnedKey {
  return { at: entry.at, type: entry.type, fingerprint: fingerprintOf(entry.key) };
}

/** Signature algorithms by the type of key they use, best first. SHA-1 (`ssh-rsa`) and DSA are not among them. */
const algorithmsByType = {
  "ssh-ed25519": ["ssh-ed25519"],
  "ecdsa-sha2-nistp256": ["ecdsa-sha2-nistp256"],
  "ecdsa-sha2-nistp384": ["ecdsa-sha2-nistp384"],
  "ecdsa-sha2-nistp521": ["ecdsa-sha2-nistp521"],
  "ssh-rsa": ["rsa-sha2-512", "rsa-sha2-256"],
} as const;
export type HostKeyAlgorithm = (typeof algorithmsByType)[keyof typeof algorithmsByType][number];

/** The order in which to ask for host keys: types that are known for the host first, so that a second key is no surprise. */
export function hostKeyAlgorithms(
  known: readonly KnownHost[],
  host: { name: string; port: number },
): readonly [HostKeyAlgorithm, ...HostKeyAlgorithm[]] {
  const names = [hostName(host.name, host.port), hostName(host.name, 22)];
  const types = new Set(
    known.filter((entry) => entry.marker === null && names.some((name) => isAbout(entry, name))).map(({ type }) => type),
  );
  const ordered = Object.entries(algorithmsByType)
    .sort(([left], [right]) => Number(types.has(right)) - Number(types.has(left)))
    .flatMap(([, algorithms]): readonly HostKeyAlgorithm[] => algorithms);
  return ordered as [HostKeyAlgorithm, ...HostKeyAlgorithm[]];
}

/** One key in words. */
export function describeKey(key: Buffer): string {
  return `${typeOfKey(key) ?? "unknown"} ${fingerprintOf(key)}`;
}
