/**
 * The root help, made once at build time from the commands' own summaries, so that `gpuctl --help` reads one file.
 * It leads with what to type first; the commands follow in the order in which one meets them.
 */

/** A terminal is at least this wide. */
const columns = 80;

/** @type {readonly (readonly [string, readonly string[]])[]} */
const groups = [
  ["Set up", ["init", "doctor", "config validate", "config view", "models fetch", "models list", "models verify"]],
  ["Images", ["images build", "images push", "images cache setup", "images cache stats", "images cache clear"]],
  ["Deploy", ["plan", "deploy", "rollback", "repair", "destroy", "prune"]],
  ["Look", ["status", "health", "logs", "releases", "diff", "audit", "lock status", "lock release"]],
  ["Use", ["index add", "index stats", "query"]],
  ["Measure", ["bench", "bench embed", "bench rerank", "bench index", "bench self-test"]],
];

const start = [
  ["gpuctl init", "write a commented gpuctl.yaml for this machine"],
  ["gpuctl models fetch", "download and verify the model it names"],
  ["gpuctl deploy", "start, prove and switch to it; the old release serves until then"],
  ["gpuctl index add docs/", "fill the vector index"],
  ['gpuctl query "…"', "ask it"],
  ["gpuctl rollback", "go back; in seconds while the old release is warm"],
];

/**
 * @param {{ version: string, description: string, commands: Readonly<Record<string, { id: string, summary?: string, hidden?: boolean }>> }} cli
 * @returns {string}
 */
export function rootHelp({ version, description, commands }) {
  const known = new Map(
    Object.values(commands)
      .filter((command) => command.hidden !== true && command.id !== "help")
      .map((command) => [command.id.replaceAll(":", " "), command.summary ?? ""]),
  );
  const width = Math.max(20, ...[...known.keys()].map((name) => name.length), ...start.map(([line = ""]) => line.length)) + 2;
  /** @type {(name: string, text: string) => string} */
  const row = (name, text) => {
    const [first = "", ...more] = wrapped(text, columns - width - 2);
    return [`  ${name.padEnd(width)}${first}`.trimEnd(), ...more.map((line) => " ".repeat(width + 2) + line)].join("\n");
  };
  const sections = groups.map(([title, names]) => section(title, names, known, row)).filter((text) => text !== "");
  const named = new Set(groups.flatMap(([, names]) => names));
  const rest = section("More", [...known.keys()].filter((name) => !named.has(name)).sort(), known, row);
  return [
    `gpuctl ${version}\n${wrapped(description, columns).join("\n")}`,
    ["Start here", ...start.map(([line = "", text = ""]) => row(line, text))].join("\n"),
    ...sections,
    ...(rest === "" ? [] : [rest]),
    [
      "Every command",
      row("--json", "exactly one JSON document on stdout; progress stays on stderr"),
      row("--help", "what it does, with examples"),
    ].join("\n"),
    row("gpuctl help exit-codes", "what each exit code means").trimStart().replace(/ {2,}/, "   "),
  ]
    .join("\n\n")
    .concat("\n");
}

/**
 * @param {string} title
 * @param {readonly string[]} names
 * @param {ReadonlyMap<string, string>} known
 * @param {(name: string, text: string) => string} row
 */
function section(title, names, known, row) {
  const rows = names.flatMap((name) => (known.has(name) ? [row(name, (known.get(name) ?? "").replace(/\.$/, ""))] : []));
  return rows.length === 0 ? "" : [title, ...rows].join("\n");
}

/**
 * Text in lines of at most so many columns.
 * @param {string} text
 * @param {number} most
 */
function wrapped(text, most) {
  const lines = [""];
  for (const word of text.split(" ")) {
    if (`${lines.at(-1)} ${word}`.length > most) lines.push(word);
    else lines[lines.length - 1] = `${lines.at(-1)} ${word}`.trim();
  }
  return lines;
}
