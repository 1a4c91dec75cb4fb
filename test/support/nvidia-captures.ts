import { readFileSync } from "node:fs";
import { readNvidiaSmi, type NvidiaSmi, type SmiOutput } from "../../cli/src/domain/nvidia-smi.js";

/** Answers of nvidia-smi on other machines, by the name of their file in test/golden/nvidia-smi. */
export const captures = [
  "t4",
  "rtx4070-wsl2",
  "h200-mig",
  "not-supported",
  "lost",
  "no-devices",
  "mismatch",
  "driver-not-loaded",
  "too-old",
  "unknown-error",
] as const;
export type Capture = (typeof captures)[number];

export function capture(name: Capture): { query: SmiOutput; list: SmiOutput } {
  const text = readFileSync(new URL(`../golden/nvidia-smi/${name}.txt`, import.meta.url), "utf8");
  const part = (label: string): string => new RegExp(`^--- ${label}\\n([^]*?)(?=^--- |(?![^]))`, "m").exec(text)?.[1] ?? "";
  const code = Number(part("exit").trim());
  return { query: { code, stdout: part("stdout"), stderr: part("stderr") }, list: { code: 0, stdout: part("list"), stderr: "" } };
}

export function smiOf(name: Capture): NvidiaSmi {
  const { query, list } = capture(name);
  return readNvidiaSmi(query, list);
}
