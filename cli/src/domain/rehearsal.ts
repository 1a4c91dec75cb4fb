/** One thing that a command would do on a host, in a dry run. */
export type RehearsedStep =
  /** A command, as it would be run; what it gets on stdin is only counted, as it may be a secret. */
  | { kind: "command"; node: string; argv: readonly string[]; inputBytes: number | null }
  | { kind: "file"; node: string; path: string; bytes: number }
  /** A file of this machine, sent to the host. */
  | { kind: "send"; node: string; local: string; path: string }
  /** Something that is waited for, or depends on what is found then. */
  | { kind: "note"; node: string; text: string };

/** In place of the lines by which a host refuses whoever lost the lease: they carry its token, which nobody has yet. */
export const leaseCheck = "# the host refuses here unless this command still holds the lease";

const looksOfDocker: readonly (readonly string[])[] = [
  ["image", "inspect"],
  ["manifest", "inspect"],
  ["info"],
  ["inspect"],
  ["logs"],
  ["ps"],
];

/** Whether a command that is no script changes nothing, so that a dry run may run it. What is not known changes something. */
export function onlyLooks(argv: readonly string[]): boolean {
  const [program, ...rest] = argv;
  if (program === "cat" || program === "test") return true;
  if (program === "nvidia-smi") return rest.every((word) => /^--(?:query|format)/.test(word) || word === "-q" || word === "-x");
  if (program !== "docker") return false;
  if (rest[0] === "compose") return rest.includes("config") && !rest.some((word) => ["up", "create", "down"].includes(word));
  return looksOfDocker.some((words) => words.every((word, position) => rest[position] === word));
}

/** The image that a command brings to its host; `unnamed` where it is in what was sent, null where it brings none. */
export function broughtImage(argv: readonly string[]): string | null {
  const words = argv.join(" ");
  if (/\bdocker load\b/.test(words)) return "unnamed";
  return /\bdocker pull (\S+)$/.exec(words)?.[1] ?? null;
}
