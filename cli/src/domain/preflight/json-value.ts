/** The value that a tool printed as JSON, or undefined when it is none. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** The value below these keys, or undefined. */
export function at(value: unknown, ...keys: readonly string[]): unknown {
  let current = value;
  for (const key of keys) {
    if (typeof current !== "object" || current === null || !Object.hasOwn(current, key)) return undefined;
    current = (current as Record<string, unknown>)[key];
  }
  return current;
}

export const textAt = (value: unknown, ...keys: readonly string[]): string | null => {
  const found = at(value, ...keys);
  return typeof found === "string" && found !== "" ? found : null;
};

/** Texts of a list; what is no text is left out. */
export function textsAt(value: unknown, ...keys: readonly string[]): string[] {
  const found = at(value, ...keys);
  return Array.isArray(found) ? found.filter((item): item is string => typeof item === "string") : [];
}
