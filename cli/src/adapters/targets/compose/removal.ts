import { composeCommand } from "../../../domain/compose/host-files.js";
import type { HostLayout } from "../../../domain/compose/layout.js";
import type { ComposeNode } from "../../../domain/compose/node.js";
import { modelVolume } from "../../../domain/compose/names.js";
import type { ModelRef } from "../../../domain/release.js";
import { ms } from "../../../domain/units.js";
import type { Lease, RemovedModels } from "../../../ports.js";
import type { HostCommands } from "./host-commands.js";
import { keptFileOf, ordersOf } from "./host-place.js";
import { othersParts } from "./other-environments.js";

/** Containers get their grace period, one after the other at worst. */
const downDeadline = ms(180_000);

/** Arguments: ROOT RUN PROJECT-FILTER ENVIRONMENT-FILTER, then ids. Removes containers that ended, with what lies on the host for them; prints the bytes of each. */
const forgetting = `root=$1 run=$2 fp=$3 fe=$4; shift 4
for id in "$@"; do
  c=$(docker ps --all --quiet --no-trunc --filter "$fp" --filter "$fe" --filter "label=dev.gpuctl.instance=$id") || exit
  bytes=0
  if [ -n "$c" ]; then
    bytes=$(docker inspect --size --format '{{.SizeRw}}' "$c" 2>/dev/null) || bytes=0
    docker rm "$c" >/dev/null || exit
  fi
  rm -rf "$run/$id" "$root/gates/$id" "$root/orders/$id"
  echo "$id \${bytes:-0}"
done`;

/** Removes ended instances; says the bytes that each of them freed. */
export async function forgetInstances(
  commands: HostCommands,
  layout: HostLayout,
  filters: readonly string[],
  ids: readonly string[],
  lease: Lease,
): Promise<readonly { what: string; bytes: number }[]> {
  if (ids.length === 0) return [];
  const args = [layout.root, layout.run, ...filters, ...ids];
  const said = await commands.change(lease, { text: forgetting, args, failure: "ended instances could not be removed" });
  return said
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const [id = "", bytes = "0"] = line.split(" ");
      return { what: `container of ${id}`, bytes: Number(bytes) };
    });
}

/**
 * Arguments: ROOT RUN, then the ids of instances and the releases that are kept. Prints what lies on the host for others: gates, orders
 * and directories of sockets of an instance, secrets of a release.
 */
const straying = `root=$1 run=$2; shift 2
stray() { case " $kept " in *" $2 "*) ;; *) if [ -e "$1" ]; then echo "$1"; fi ;; esac; }
kept=$*
for p in "$root"/gates/* "$root"/orders/* "$run"/*; do
  id=\${p##*/}; id=\${id%.new}; id=\${id%.claimed}
  case $id in *-r[0-9]*-*-a|*-r[0-9]*-*-b|*-r[0-9]*-*-cpu) stray "$p" "$id" ;; esac
done
for p in "$root"/secrets/*; do stray "$p" "\${p##*/}"; done`;

/** Removes what still lies on the host for instances that are gone, and the secrets of releases of which nothing is kept. */
export async function sweepRemains(
  commands: HostCommands,
  { root, run }: HostLayout,
  kept: { ids: readonly string[]; releases: readonly string[] },
  lease: Lease,
): Promise<void> {
  const args = [root, run, ...new Set([...kept.ids, ...kept.releases])];
  const said = await commands.look({ text: straying, args, failure: "old files could not be looked for" });
  const paths = said.split("\n").filter((line) => line !== "");
  if (paths.length === 0) return;
  await commands.change(lease, { text: 'rm -rf -- "$@"', args: paths, failure: "old files could not be removed" });
}

/**
 * Arguments: ROOT RUN KEPT ORDERS PROJECT-FILTER ENVIRONMENT-FILTER, then the words of `docker compose`. By the Compose file where
 * there is one, and then by labels: what an older file named, or nobody does any more, goes as well. Releases, index and models stay.
 */
const destroying = `root=$1 run=$2 kept=$3 orders=$4 fp=$5 fe=$6; shift 6
rm -rf "$orders"
ids() { docker ps --all --quiet --no-trunc --filter "$fp" --filter "$fe"; }
found=$(ids) || exit
if [ -n "$found" ]; then docker update --restart no $found >/dev/null; fi
if [ -f "$root/compose.yaml" ]; then "$@" down --remove-orphans >&2; fi
found=$(ids) || exit
if [ -n "$found" ]; then docker rm --force $found >/dev/null || exit; fi
rm -rf "$run" "$root/gates" "$root/secrets" "$root/proxy" "$root/ingress" "$root/compose.yaml" "$root/README.txt" "$root/proxy-told" "$root/ingress-told" "$kept"`;

export async function destroyNode(
  commands: HostCommands,
  node: ComposeNode,
  layout: HostLayout,
  filters: readonly string[],
  lease: Lease,
): Promise<void> {
  const { root, run } = layout;
  const args = [root, run, keptFileOf(root), ordersOf(root), ...filters, ...composeCommand(node)];
  const failure = "the environment could not be ended";
  await commands.change(lease, { text: destroying, args, failure, deadline: downDeadline });
}

/** A file system takes seconds for some files of gigabytes, and minutes when it is a slow one. */
const removalDeadline = ms(180_000);

/**
 * Arguments: ROOT, then VOLUME MANIFEST NAME again and again. Prints `removed BYTES NAME`, or `kept NAME: why`. Docker itself refuses
 * to remove a volume that a container has, also one that has ended.
 */
const removing = `${othersParts}
while [ $# -gt 0 ]; do
  volume=$1 manifest=$2 name=$3; shift 3
  m=$(docker volume inspect --format '{{.Mountpoint}}' "$volume" 2>&1) || {
    case $m in *[Nn]"o such volume"*) continue ;; esac
    echo "$m" >&2; exit 1
  }
  if record=$(others_name "$manifest"); then echo "kept $name: $record names it"; continue; fi
  bytes=$(du -sb "$m" 2>/dev/null | cut -f1)
  if said=$(docker volume rm "$volume" 2>&1); then echo "removed \${bytes:-0} $name"; continue; fi
  case $said in *"in use"*) echo "kept $name: a container has it" ;; *) echo "$said" >&2; exit 1 ;; esac
done`;

/** Removes the volumes of models from a host, but for those that a container of anybody has or another environment's release names. */
export async function removeModels(commands: HostCommands, models: readonly ModelRef[], lease: Lease): Promise<RemovedModels> {
  const volumes = new Map(models.map((ref) => [modelVolume(ref), ref]));
  if (volumes.size === 0) return { removed: [], kept: [] };
  const args = [commands.root, ...[...volumes].flatMap(([volume, { manifest, name }]) => [volume, manifest, name])];
  const failure = "the models could not be removed";
  const said = await commands.change(lease, { text: removing, args, failure, deadline: removalDeadline });
  const lines = said.split("\n").map((line) => /^(removed|kept) (?:(\d+) )?(.*)$/.exec(line) ?? []);
  return {
    removed: lines.flatMap(([, state, bytes, name = ""]) =>
      state === "removed" ? [{ what: `model ${name}`, bytes: Number(bytes) }] : [],
    ),
    kept: lines.flatMap(([, state, , text = ""]) => (state === "kept" ? [`model ${text}`] : [])),
  };
}
