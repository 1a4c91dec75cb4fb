import { createHash } from "node:crypto";
import type { Sha256 } from "./names.js";

/** JSON with sorted keys and without undefined members: equal values give equal text, whatever order they were built in. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map((item) => canonicalJson(item ?? null)).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const members = Object.entries(value)
      .filter(([, member]) => member !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
      .map(([key, member]) => `${JSON.stringify(key)}:${canonicalJson(member)}`);
    return `{${members.join(",")}}`;
  }
  return JSON.stringify(value);
}

/** Lower-case hex SHA-256 of UTF-8 text. */
export function sha256(text: string): Sha256 {
  return createHash("sha256").update(text, "utf8").digest("hex");
}
