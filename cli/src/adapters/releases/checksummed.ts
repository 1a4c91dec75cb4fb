import { canonicalJson, sha256 } from "../../domain/canonical.js";

/** `{"checksum","body"}`: the body as canonical JSON, so that the checksum does not depend on who wrote it. */
export function seal(body: unknown): string {
  const text = canonicalJson(body);
  return `{"checksum":"${sha256(text)}","body":${text}}\n`;
}

export type Unsealed = { ok: true; body: unknown } | { ok: false; because: string };

/** The body, when its checksum is right. */
export function unseal(text: string): Unsealed {
  if (text.trim() === "") return { ok: false, because: "the file is empty" };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { ok: false, because: "it is not JSON (cut off, or edited)" };
  }
  if (typeof value !== "object" || value === null || !("checksum" in value) || !("body" in value)) {
    return { ok: false, because: "it has no checksum and body" };
  }
  const found = sha256(canonicalJson(value.body));
  if (value.checksum !== found) {
    return {
      ok: false,
      because: `its checksum says ${String(value.checksum).slice(0, 12)} and its content has ${found.slice(0, 12)}`,
    };
  }
  return { ok: true, body: value.body };
}
