/** Addresses and networks of IPv4 and IPv6, as numbers. */
interface Network {
  bits: 32 | 128;
  base: bigint;
  prefix: number;
}

/** `10.0.0.0/8`, `fd00::/8` or a single address; null for what is none. */
export function parseNetwork(text: string): Network | null {
  const [address = "", length, ...more] = text.split("/");
  const parsed = parseAddress(address);
  if (parsed === null || more.length > 0) return null;
  if (length === undefined) return { ...parsed, prefix: parsed.bits };
  const prefix = /^\d{1,3}$/.test(length) ? Number(length) : -1;
  return prefix < 0 || prefix > parsed.bits ? null : { ...parsed, prefix };
}

/** Whether every address of `inner` is in one of `outers`; networks that are no networks hold nothing. */
export function within(inner: string, outers: readonly string[]): boolean {
  const small = parseNetwork(inner);
  if (small === null) return false;
  return outers.some((text) => {
    const big = parseNetwork(text);
    if (big?.bits !== small.bits || big.prefix > small.prefix) return false;
    const shift = BigInt(big.bits - big.prefix);
    return small.base >> shift === big.base >> shift;
  });
}

/** Networks that the internet does not route: loopback, private, carrier-grade, link-local, and the one for benchmarks (RFC 2544). */
const unrouted = [
  "127.0.0.0/8",
  "10.0.0.0/8",
  "172.16.0.0/12",
  "192.168.0.0/16",
  "100.64.0.0/10",
  "169.254.0.0/16",
  "198.18.0.0/15",
  "::1/128",
  "fc00::/7",
  "fe80::/10",
];

/** Whether the internet may route to an address; a wildcard is as public as the interfaces behind it, and asked about one by one. */
export const isPublic = (address: string): boolean => parseNetwork(address) !== null && !within(address, unrouted);
export const isLoopback = (address: string): boolean => within(address, ["127.0.0.0/8", "::1/128"]);
export const isWildcard = (address: string): boolean => address === "0.0.0.0" || parseNetwork(address)?.base === 0n;

/** Whether two sockets cannot both listen: one address, or a wildcard of its family. `::` takes IPv4 too, as Linux does by default. */
export function collides(left: string, right: string): boolean {
  const [one, other] = [parseAddress(left), parseAddress(right)];
  if (one === null || other === null) return left === right;
  if (left === "::" || right === "::" || (one.bits === 128 && one.base === 0n) || (other.bits === 128 && other.base === 0n))
    return true;
  if (one.bits !== other.bits) return false;
  return one.base === other.base || one.base === 0n || other.base === 0n;
}

function parseAddress(text: string): { bits: 32 | 128; base: bigint } | null {
  if (/^\d{1,3}(?:\.\d{1,3}){3}$/.test(text)) return parseFour(text);
  return text.includes(":") ? parseSix(text) : null;
}

function parseFour(text: string): { bits: 32; base: bigint } | null {
  const bytes = text.split(".").map(Number);
  if (bytes.some((byte) => byte > 255)) return null;
  return { bits: 32, base: bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n) };
}

function parseSix(text: string): { bits: 128; base: bigint } | null {
  const tail = /(?<=:)\d{1,3}(?:\.\d{1,3}){3}$/.exec(text)?.[0];
  const four = tail === undefined ? null : parseFour(tail);
  if (tail !== undefined && four === null) return null;
  const last = four === null ? "" : `${(four.base >> 16n).toString(16)}:${(four.base & 0xffffn).toString(16)}`;
  const halves = (tail === undefined ? text : text.slice(0, -tail.length) + last).split("::");
  if (halves.length > 2) return null;
  const [head = [], rest = []] = halves.map((half) => (half === "" ? [] : half.split(":")));
  const missing = 8 - head.length - rest.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return null;
  const groups = [...head, ...Array.from({ length: missing }, () => "0"), ...rest];
  if (!groups.every((group) => /^[0-9a-fA-F]{1,4}$/.test(group))) return null;
  return { bits: 128, base: groups.reduce((sum, group) => (sum << 16n) | BigInt(`0x${group}`), 0n) };
}
