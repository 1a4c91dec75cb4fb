/** Reads docs/guides/troubleshooting.md: entries with codes and messages, and tables. */

export interface Entry {
  codes: readonly string[];
  /** `blocker`, `warning`, or `blocker or warning`. */
  levels: string;
  /** As the page has them, with words in angle brackets for what differs. */
  messages: readonly string[];
  /** The words in bold that begin its lines. */
  labels: readonly string[];
}

/** Entries under headings such as "### `port-taken`, `port-lost` on a host: blocker or warning". */
export function entriesOf(text: string): Entry[] {
  return text.split(/^### /m).flatMap((section) => {
    const heading = /^((?:`[a-z0-9-]+`(?:, )?)+)[^:\n]*: (blocker or warning|blocker|warning)\n/.exec(section);
    if (heading === null) return [];
    const [, names = "", levels = ""] = heading;
    const messages = /^```\n([^]*?)\n```$/m.exec(section)?.[1]?.split("\n") ?? [];
    const labels = [...section.matchAll(/^- \*\*([^*]+)\*\* \S/gm)].map((match) => match[1] ?? "");
    return [{ codes: [...names.matchAll(/`([^`]+)`/g)].map((match) => match[1] ?? ""), levels, messages, labels }];
  });
}

const word = String.raw`[\w.+-]+`;

/** What may stand in the place of each word in angle brackets: as little as the program puts there. */
const placeholders: Readonly<Record<string, string>> = {
  address: "[0-9a-f.:]+",
  architecture: word,
  card: String.raw`GPU \d+ [A-Z][\w ]+?`,
  cards: String.raw`GPU \d+(?:, GPU \d+)*`,
  codes: String.raw`\d+(?:, \d+)*`,
  command: word,
  device: String.raw`nvidia\.com/gpu=\S+`,
  driver: "[a-z0-9]+",
  file: String.raw`\S+`,
  gpu: "(?:all GPUs|(?:GPU|MIG)-[0-9a-f-]+)(?: and (?:GPU|MIG)-[0-9a-f-]+)*",
  kernel: word,
  level: "(?:self|vram|process)",
  n: String.raw`\d+(?:\.\d+)?`,
  name: word,
  node: word,
  path: String.raw`/\S+`,
  port: String.raw`\d+`,
  probes: "[a-z-]+(?:, [a-z-]+)*",
  processes: String.raw`[\w /.-]+ \(pid \d+\) \d+ MiB(?:, [\w /.-]+ \(pid \d+\) \d+ MiB)*`,
  rooms: "(?:images and models|images, models and records|records)",
  services: "(?:embedder|reranker|index)(?: and (?:embedder|reranker|index))*",
  size: String.raw`\d+\.\d Gi?B`,
  system: String.raw`[\w.()/ -]+?`,
  "the first line of what is wrong": ".+",
  time: String.raw`\d+(?:\.\d)? m?s`,
  user: "(?:[a-z_][a-z0-9_-]*|this user)",
  version: String.raw`\d+(?:\.\d+)+`,
  what: ".+",
};

/** The whole of a message as the program prints it. Throws for a word in angle brackets that means nothing here. */
export function matcherOf(message: string): RegExp {
  const parts = message.split(/(<[^<>]+>)/).map((part) => {
    if (!part.startsWith("<")) return part.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
    const pattern = placeholders[part.slice(1, -1)];
    if (pattern === undefined) throw new Error(`${part} has no meaning in ${message}`);
    return pattern;
  });
  return new RegExp(`^${parts.join("")}$`);
}

/** A message with `<>` for everything that differs. */
export const normal = (message: string): string => message.replaceAll(/<[^<>]+>/g, "<>");

/** Cells of the rows of a table, found by the words of its first heading. */
export function tableOf(text: string, heading: string): string[][] {
  const lines = text.slice(text.indexOf(`| ${heading} |`)).split("\n");
  const end = lines.findIndex((line) => !line.startsWith("|"));
  return lines.slice(2, end).map((line) =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}
