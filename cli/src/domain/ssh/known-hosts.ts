import { createHmac } from "node:crypto";

/** Where a line of a known_hosts file says that it holds. */
type HostField = { kind: "patterns"; patterns: readonly string[] } | { kind: "hashed"; salt: Buffer; hash: Buffer };

/** One line of a known_hosts file. */
export interface KnownHost {
  /** `path:line`, for people. */
  at: string;
  marker: "revoked" | "cert-authority" | null;
  hosts: HostField;
  /** For example `ssh-ed25519`. */
  type: string;
  key: Buffer;
}

/** Reads a known_hosts file (sshd(8), section SSH_KNOWN_HOSTS FILE FORMAT). Lines that ssh would ignore are ignored. */
export function parseKnownHosts(text: string, file: string): readonly KnownHost[] {
  return text.split("\n").flatMap((line, position) => {
    const fields = line.trim().split(/[ \t]+/);
    const marker = fields[0]?.startsWith("@") ? fields.shift() : undefined;
    const [hosts, type, base64] = fields;
    if (hosts === undefined || type === undefined || base64 === undefined || hosts.startsWith("#")) return [];
    const known = { "@revoked": "revoked", "@cert-authority": "cert-authority" } as const;
    if (marker !== undefined && !(marker in known)) return [];
    const key = keyOf(type, base64);
    const field = hostField(hosts);
    if (key === null || field === null) return [];
    const at = `${file}:${position + 1}`;
    return [{ at, marker: marker === undefined ? null : known[marker as keyof typeof known], hosts: field, type, key }];
  });
}

/** The key of a line, or null when it is none or not of the type that stands before it. */
function keyOf(type: string, base64: string): Buffer | null {
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(base64)) return null;
  const key = Buffer.from(base64, "base64");
  return typeOfKey(key) === type ? key : null;
}

/** The type that a public key of the protocol begins with; null when it is no key. */
export function typeOfKey(key: Buffer): string | null {
  if (key.length < 4) return null;
  const length = key.readUInt32BE(0);
  return length === 0 || length > 64 || key.length < 4 + length ? null : key.toString("latin1", 4, 4 + length);
}

function hostField(hosts: string): HostField | null {
  if (!hosts.startsWith("|")) return { kind: "patterns", patterns: hosts.split(",") };
  const [, version, salt, hash] = hosts.split("|");
  if (version !== "1" || salt === undefined || hash === undefined) return null;
  const field = { kind: "hashed", salt: Buffer.from(salt, "base64"), hash: Buffer.from(hash, "base64") } as const;
  return field.salt.length === 20 && field.hash.length === 20 ? field : null;
}

/** How a host is written in known_hosts: alone at port 22, else `[host]:port`. */
export function hostName(host: string, port: number): string {
  const name = host.toLowerCase();
  return port === 22 ? name : `[${name}]:${port}`;
}

/** Whether a line is about a host; `name` as `hostName` writes it. */
export function isAbout(entry: KnownHost, name: string): boolean {
  if (entry.hosts.kind === "hashed") return hashOf(name, entry.hosts.salt).equals(entry.hosts.hash);
  let matched = false;
  for (const pattern of entry.hosts.patterns) {
    const negated = pattern.startsWith("!");
    if (!matchesPattern(name, (negated ? pattern.slice(1) : pattern).toLowerCase())) continue;
    if (negated) return false;
    matched = true;
  }
  return matched;
}

/** `*` is any text, `?` one character; everything else is itself. Linear in the text for each star, whatever the pattern. */
function matchesPattern(name: string, pattern: string): boolean {
  let at = 0;
  let here = 0;
  let star = -1;
  let afterStar = 0;
  while (at < name.length) {
    const wanted = pattern[here];
    if (wanted === "*") {
      star = here++;
      afterStar = at;
    } else if (wanted === "?" || wanted === name[at]) {
      here += 1;
      at += 1;
    } else if (star !== -1) {
      here = star + 1;
      at = ++afterStar;
    } else return false;
  }
  while (pattern[here] === "*") here += 1;
  return here === pattern.length;
}

function hashOf(name: string, salt: Buffer): Buffer {
  return createHmac("sha1", salt).update(name).digest();
}

/** A line for a known_hosts file; with a salt (20 random bytes) the name is hashed, as `HashKnownHosts yes` asks. */
export function knownHostLine(name: string, key: Buffer, salt: Buffer | null): string {
  const host = salt === null ? name : `|1|${salt.toString("base64")}|${hashOf(name, salt).toString("base64")}`;
  return `${host} ${typeOfKey(key) ?? ""} ${key.toString("base64")}`;
}
