import { type Phase, phases } from "../../domain/phases.js";

export interface Symbols {
  done: string;
  failed: string;
  skipped: string;
  running: string;
  full: string;
  empty: string;
}

const unicode: Symbols = { done: "✓", failed: "✗", skipped: "–", running: "…", full: "█", empty: "░" };
const ascii: Symbols = { done: "ok", failed: "!!", skipped: "--", running: "..", full: "#", empty: "-" };

/** Unicode where the locale says that the terminal can show it. */
export function symbolsFor(env: Readonly<Record<string, string | undefined>>): Symbols {
  const locale = env["LC_ALL"] || env["LC_CTYPE"] || env["LANG"] || "";
  return /utf-?8/i.test(locale) && env["TERM"] !== "linux" && env["TERM"] !== "dumb" ? unicode : ascii;
}

/** `08 start`: the number is the phase's place in the lifecycle. */
export function phaseName(phase: Phase): string {
  return `${(phases.indexOf(phase) + 1).toString().padStart(2, "0")} ${phase}`;
}

export function duration(milliseconds: number): string {
  if (milliseconds < 1000) return `${Math.round(milliseconds).toString()} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60).toString()} min ${(whole % 60).toString()} s`;
  return `${Math.floor(whole / 3600).toString()} h ${Math.floor((whole % 3600) / 60).toString()} min`;
}

/** `3.4 MiB` for bytes, `1,204 chunks` for anything else. */
export function quantity(value: number, unit: string): string {
  return unit === "bytes" ? bytes(value) : `${count(value)} ${unit}`;
}

export function count(value: number): string {
  return value.toLocaleString("en-US", { maximumFractionDigits: value < 100 ? 1 : 0 });
}

function bytes(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = value < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(value) / 10));
  const scaled = value / 2 ** (10 * power);
  return `${power === 0 ? Math.round(scaled).toString() : scaled.toFixed(1)} ${units[power] ?? "B"}`;
}

export function bar(share: number, width: number, symbols: Symbols): string {
  const full = Math.round(Math.min(1, Math.max(0, share)) * width);
  return symbols.full.repeat(full) + symbols.empty.repeat(width - full);
}
