import { mib, ms, type MiB, type Milliseconds } from "../units.js";

const millisecondsPer = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const bytesPer = {
  B: 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
} as const;

/** `500ms`, `1.5s`, `10m`, `2h`, `7d`. The number is bounded so that no exponent or absurd length gets through. */
export const durationPattern = /^(\d{1,10}(?:\.\d{1,3})?)(ms|s|m|h|d)$/;
/** `8MiB`, `2GiB`, `16GB`: binary and decimal units are told apart, as memory and disks are sold by different ones. */
export const sizePattern = /^(\d{1,15}(?:\.\d{1,3})?)(B|KiB|MiB|GiB|TiB|KB|MB|GB|TB)$/;

/** The longest duration a timer of this runtime can wait for (2^31 - 1 ms, 24.8 days). */
export const longestDuration = ms(2 ** 31 - 1);

/** Milliseconds of a duration such as `10m`, or null when the text is none or is longer than any timer can wait. */
export function parseDuration(text: string): Milliseconds | null {
  const match = durationPattern.exec(text);
  if (!match) return null;
  const value = Math.round(Number(match[1]) * millisecondsPer[match[2] as keyof typeof millisecondsPer]);
  return value > longestDuration ? null : ms(value);
}

/** The shortest exact way to write a duration: `600000` is `10m`. */
export function formatDuration(value: Milliseconds): string {
  for (const unit of ["d", "h", "m", "s"] as const) {
    if (value !== 0 && value % millisecondsPer[unit] === 0) return `${value / millisecondsPer[unit]}${unit}`;
  }
  return value === 0 ? "0s" : `${value}ms`;
}

/** Bytes of a size such as `8MiB`, or null when the text is none or is not exactly representable. */
export function parseSize(text: string): number | null {
  const match = sizePattern.exec(text);
  if (!match) return null;
  const value = Math.round(Number(match[1]) * bytesPer[match[2] as keyof typeof bytesPer]);
  return Number.isSafeInteger(value) ? value : null;
}

/** The shortest exact way to write a size in binary units: `8388608` is `8MiB`. */
export function formatSize(bytes: number): string {
  for (const unit of ["TiB", "GiB", "MiB", "KiB"] as const) {
    if (bytes !== 0 && bytes % bytesPer[unit] === 0) return `${bytes / bytesPer[unit]}${unit}`;
  }
  return `${bytes}B`;
}

/** A size in MiB, rounded up: a budget never promises less than was written. */
export const bytesToMiB = (bytes: number): MiB => mib(Math.ceil(bytes / bytesPer.MiB));
