import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { parseDocument } from "yaml";
import { validatePrices } from "../cli/src/domain/config/validate.js";
import type { PriceList } from "./lib/gpu-refusal.js";

/** Folder with Pulumi.yaml. */
const root = resolve(import.meta.dirname, "..");

/** The user's price list; a relative path is from the folder with Pulumi.yaml. Mistakes in it are for `gpuctl cost` to show. */
export function priceList(file: string): PriceList {
  const path = resolve(root, file);
  if (!existsSync(path)) return { kind: "none" };
  const text = readFileSync(path, "utf8");
  const parsed = parseDocument(text);
  if (parsed.errors.length > 0) return { kind: "unreadable", file };
  const { value } = validatePrices({ file, text, value: parsed.toJS() as unknown, problems: [], locate: () => null });
  return value === null ? { kind: "unreadable", file } : { kind: "known", file, list: value };
}
