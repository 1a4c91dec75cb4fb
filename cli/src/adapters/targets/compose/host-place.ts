import {
  composeCommand,
  hostDirectories,
  hostFiles,
  layoutOf,
  type HostDirectory,
  type HostFile,
} from "../../../domain/compose/host-files.js";
import type { ComposeNode } from "../../../domain/compose/node.js";
import { sha256 } from "../../../domain/canonical.js";
import type { Command, Lease } from "../../../ports.js";
import type { HostCommands } from "./host-commands.js";
import { writeKept } from "./node-plan.js";

/** Where the driver keeps what it orders for later, beside what the domain lays out. */
export const ordersOf = (root: string): string => `${root}/orders`;
export const keptFileOf = (root: string): string => `${root}/node.json`;

/** Arguments: paths. Prints for each `<mode> <uid:gid> <hash, d or ->`: mode in octal. */
const surveying = `for p in "$@"; do
  if [ -d "$p" ]; then h=d; elif [ -f "$p" ]; then h=$(sha256sum <"$p" | cut -c1-64); else echo '- - -'; continue; fi
  echo "$(stat -c '%a %u:%g' "$p") $h"
done`;

/** Arguments: MODE OWNER DIR, again and again. Parents come first and are nobody else's by then. */
const makingDirectories = `while [ $# -gt 0 ]; do
  if [ -h "$3" ]; then echo "$3 is a link" >&2; exit 1; fi
  (umask 022; mkdir -p "$3") && chown "$2" "$3" && chmod "$1" "$3" || exit 1
  shift 3
done`;

/**
 * Makes a node's directories and files what they must be and leaves alone what already is. Says which files were replaced.
 * A Compose file that Docker does not take is never put in the place of the one that works.
 */
export async function placeNode(
  commands: HostCommands,
  node: ComposeNode,
  secrets: readonly HostFile[],
  lease: Lease,
): Promise<readonly string[]> {
  const layout = layoutOf(node);
  const own: HostDirectory = { path: ordersOf(layout.root), mode: 0o700, owner: "0:0" };
  const directories = [...hostDirectories(node), own];
  // node.json comes before compose.yaml: whoever is interrupted between them renders the same file again.
  const files = [...secrets, keptFile(node), ...hostFiles(node)];
  const found = await survey(
    commands,
    [...directories, ...files].map(({ path }) => path),
  );
  const missing = directories.filter(({ path, mode, owner }) => found.get(path) !== `${mode.toString(8)} ${owner} d`);
  for (const { path, mode, owner } of missing)
    commands.rehearsal?.places.set(path, { facts: `${mode.toString(8)} ${owner} d`, content: null });
  const changed = files.filter((file) => found.get(file.path) !== wanted(file));
  if (missing.length > 0) {
    const args = missing.flatMap(({ path, mode, owner }) => [mode.toString(8), owner, path]);
    await commands.change(lease, { text: makingDirectories, args, failure: "the directories could not be made" });
  }
  for (const file of changed) {
    if (file.path === layout.composeFile) await validate(commands, node, file.content);
    await commands.write(lease, file);
  }
  return changed.map(({ path }) => path);
}

/** node.json, as it must be. */
export const keptFile = (node: ComposeNode): HostFile => ({
  path: keptFileOf(layoutOf(node).root),
  mode: 0o600,
  owner: "0:0",
  content: writeKept(node),
});

const wanted = ({ mode, owner, content }: HostFile): string => `${mode.toString(8)} ${owner} ${sha256(content)}`;

async function survey(commands: HostCommands, paths: readonly string[]): Promise<ReadonlyMap<string, string>> {
  const failure = "the environment's files could not be looked at";
  const lines = (await commands.look({ text: surveying, args: paths, failure })).split("\n");
  const rehearsed = commands.rehearsal?.places;
  return new Map(paths.map((path, position) => [path, rehearsed?.get(path)?.facts ?? lines[position] ?? ""]));
}

async function validate(commands: HostCommands, node: ComposeNode, content: string): Promise<void> {
  const [docker, ...rest] = composeCommand(node);
  const args = rest.map((word) => (word === layoutOf(node).composeFile ? "-" : word));
  const command: Command = { argv: [docker, ...args, "config", "--quiet"], input: content };
  await commands.must(command, "Docker Compose does not take the rendered Compose file");
}
