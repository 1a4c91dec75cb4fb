/**
 * A stack's configuration as plain data: Pulumi keeps each key as text, structure as JSON.
 * @param all every key with its namespace, such as `gpuctl:nodes`
 * @param secret keys that are left out
 */
export function rawConfig(
  all: Readonly<Record<string, string>>,
  namespace: string,
  secret: readonly string[],
): Record<string, unknown> {
  const prefix = `${namespace}:`;
  return Object.fromEntries(
    Object.entries(all)
      .filter(([key]) => key.startsWith(prefix) && !secret.includes(key.slice(prefix.length)))
      .map(([key, value]) => [key.slice(prefix.length), plain(value)]),
  );
}

/** `revision: 2` and `revision: "2"` are the same to Pulumi, so only maps, lists, and words that cannot be text are read as JSON. */
function plain(value: string): unknown {
  if (value === "true" || value === "false") return value === "true";
  if (!/^[[{]/.test(value)) return value;
  try {
    return JSON.parse(value) as unknown;
  } catch {
    return value;
  }
}
