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
  id=\${p##*/}; id=\${id%%.*}
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
 * Arguments: ROOT MINUTES, then VOLUME MANIFEST NAME again and again. Prints `removed BYTES NAME`, or `kept NAME: why`. Docker itself
 * refuses to remove a volume that a container has, also one that has ended. With MINUTES the environment goes on: what its own records
 * name stays, also one that cannot be read, and what came within so many minutes.
 */
const removing = `${othersParts}
fresh=$1; shift
while [ $# -gt 0 ]; do
  volume=$1 manifest=$2 name=$3; shift 3
  m=$(docker volume inspect --format '{{.Mountpoint}}' "$volume" 2>&1) || {
    case $m in *[Nn]"o such volume"*) continue ;; esac
    echo "$m" >&2; exit 1
  }
  if [ "$fresh" -gt 0 ]; then
    record=$(grep -lF -e "$manifest" "$own"/releases/r*.json 2>/dev/null | head -n 1)
    if [ -n "$record" ]; then echo "kept $name: $record names it"; continue; fi
    if [ -n "$(find "$m" -maxdepth 1 -mmin "-$fresh" 2>/dev/null | head -n 1)" ]; then
      echo "kept $name: it came within the last hour, perhaps for a deploy that has no record yet"; continue
    fi
  fi
  if record=$(others_name "$manifest"); then echo "kept $name: $record names it"; continue; fi
  bytes=$(du -sb "$m" 2>/dev/null | cut -f1)
  if said=$(docker volume rm "$volume" 2>&1); then echo "removed \${bytes:-0} $name"; continue; fi
  case $said in *"in use"*) echo "kept $name: a container has it" ;; *) echo "$said" >&2; exit 1 ;; esac
done`;

interface ModelVolume {
  volume: string;
  manifest: string;
  /** For people. */
  name: string;
}

/** Removes the volumes of models from a host, but for those that a container of anybody has or another environment's release names. */
export function removeModels(commands: HostCommands, models: readonly ModelRef[], lease: Lease): Promise<RemovedModels> {
  const volumes = new Map(models.map((ref) => [modelVolume(ref), ref]));
  const named = [...volumes].map(([volume, { manifest, name }]) => ({ volume, manifest, name }));
  return removeVolumes(commands, named, 0, lease);
}

/** An environment that stages a model has no record of it yet, so what is new is left to its next prune. */
const freshMinutes = 60;

/** Removes the volumes of all models from a host, but for `keep`, and those that removeModels leaves or that have only just come. */
export async function pruneModels(commands: HostCommands, keep: readonly ModelRef[], lease: Lease): Promise<RemovedModels> {
  const format = '{{.Name}} {{.Label "dev.gpuctl.manifest"}} {{.Label "dev.gpuctl.model"}}';
  const argv = ["docker", "volume", "ls", "--filter", "label=dev.gpuctl.manifest", "--format", format] as const;
  const said = await commands.must({ argv }, "the models could not be looked for");
  const kept = new Set(keep.map(modelVolume));
  const volumes = said.split("\n").flatMap((line) => {
    const [volume = "", manifest = "", name = volume] = line.split(" ");
    return volume === "" || kept.has(volume) ? [] : [{ volume, manifest, name }];
  });
  return removeVolumes(commands, volumes, freshMinutes, lease);
}

async function removeVolumes(
  commands: HostCommands,
  volumes: readonly ModelVolume[],
  fresh: number,
  lease: Lease,
): Promise<RemovedModels> {
  if (volumes.length === 0) return { removed: [], kept: [] };
  const args = [commands.root, `${fresh}`, ...volumes.flatMap(({ volume, manifest, name }) => [volume, manifest, name])];
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
