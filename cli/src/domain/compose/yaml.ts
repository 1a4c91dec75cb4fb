import { stringify } from "yaml";

/** What a rendered document consists of. */
export type YamlValue = string | number | boolean | readonly YamlValue[] | { readonly [key: string]: YamlValue | undefined };

/**
 * A Compose file as text: the order of keys as given, undefined members left out, every text double-quoted (so that `yes`,
 * `1e3`, `0o7` and `~` stay texts for every reader) and every `$` doubled, because Compose substitutes variables in all texts.
 * Equal values give equal text.
 */
export function composeYaml(value: YamlValue, comment: string): string {
  const text = stringify(withoutVariables(value), {
    defaultStringType: "QUOTE_DOUBLE",
    defaultKeyType: "PLAIN",
    doubleQuotedAsJSON: true,
    lineWidth: 0,
    aliasDuplicateObjects: false,
    keepUndefined: false,
  });
  const header = comment.split("\n").map((line) => (line === "" ? "#" : `# ${line}`));
  return `${header.join("\n")}\n${text}`;
}

function withoutVariables(value: YamlValue): YamlValue {
  if (typeof value === "string") return value.replaceAll("$", "$$$$");
  if (Array.isArray(value)) return value.map((item: YamlValue) => withoutVariables(item));
  if (typeof value !== "object") return value;
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, member]) => (member === undefined ? [] : [[key, withoutVariables(member)]])),
  );
}
