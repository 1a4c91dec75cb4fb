/** IPv4 and IPv6 networks, as far as a firewall and an address plan need them. */

export interface Network {
  family: 4 | 6;
  /** First address, as a number. */
  first: bigint;
  /** Length of the prefix: 0 to 32, or 0 to 128. */
  prefix: number;
}

const bits = { 4: 32, 6: 128 } as const;

/**
 * Reads `10.0.0.0/8`, `2001:db8::/32` or a single address.
 * @returns null when it is none, or when bits beyond the prefix are set (`10.0.0.1/8` is more likely a slip than a network)
 */
export function parseNetwork(text: string): Network | null {
  const [address = "", length, ...rest] = text.split("/");
  const family = address.includes(":") ? 6 : 4;
  const first = family === 4 ? parseIpv4(address) : parseIpv6(address);
  if (first === null || rest.length > 0) return null;
  if (length !== undefined && !/^\d{1,3}$/.test(length)) return null;
  const prefix = length === undefined ? bits[family] : Number(length);
  if (prefix > bits[family] || first % size({ family, prefix }) !== 0n) return null;
  return { family, first, prefix };
}

/** How many addresses a network has. */
export const size = ({ family, prefix }: Pick<Network, "family" | "prefix">): bigint => 1n << BigInt(bits[family] - prefix);

export function contains(outer: Network, inner: Network): boolean {
  return outer.family === inner.family && outer.first <= inner.first && inner.first + size(inner) <= outer.first + size(outer);
}

export const overlaps = (one: Network, other: Network): boolean => contains(one, other) || contains(other, one);

/** `10.20.1.11` of the 11th address after the first one of `10.20.1.0/24`. IPv4 only. */
export function addressAt(network: Network, number: number): string {
  const address = network.first + BigInt(number);
  return [24n, 16n, 8n, 0n].map((shift) => ((address >> shift) & 255n).toString()).join(".");
}

export const networkText = (network: Network): string => `${addressAt(network, 0)}/${network.prefix}`;

/**
 * Whether a network is so wide that a rule for it is a rule for the internet: shorter than /8 (IPv4) or /16 (IPv6), so that
 * writing the whole internet as two halves is seen too.
 */
export const isOpen = ({ family, prefix }: Network): boolean => prefix < (family === 4 ? 8 : 16);

function parseIpv4(text: string): bigint | null {
  if (!/^\d{1,3}(?:\.\d{1,3}){3}$/.test(text)) return null;
  const parts = text.split(".").map(Number);
  return parts.some((part) => part > 255) ? null : parts.reduce((sum, part) => sum * 256n + BigInt(part), 0n);
}

function parseIpv6(text: string): bigint | null {
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const [head = [], tail = []] = halves.map((half) => (half === "" ? [] : half.split(":")));
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return null;
  const groups = [...head, ...Array<string>(halves.length === 2 ? missing : 0).fill("0"), ...tail];
  if (!groups.every((group) => /^[0-9a-fA-F]{1,4}$/.test(group))) return null;
  return groups.reduce((sum, group) => sum * 65_536n + BigInt(Number.parseInt(group, 16)), 0n);
}
