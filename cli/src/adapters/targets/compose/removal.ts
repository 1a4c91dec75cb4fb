import { composeCommand } from "../../../domain/compose/host-files.js";
import type { HostLayout } from "../../../domain/compose/layout.js";
import type { ComposeNode, HostInstance } from "../../../domain/compose/node.js";
import { ms } from "../../../domain/units.js";
import type { Lease } from "../../../ports.js";
import type { HostCommands } from "./host-commands.js";
import { keptFileOf, ordersOf } from "./host-place.js";

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

/** Removes the secrets of releases of which nothing is kept. */
export async function forgetSecrets(
  commands: HostCommands,
  layout: HostLayout,
  kept: readonly HostInstance[],
  lease: Lease,
): Promise<void> {
  const text = `cd "$1" 2>/dev/null || exit 0; shift
for dir in *; do
  case " $* " in *" $dir "*) ;; *) rm -rf "./$dir" ;; esac
done`;
  const args = [layout.secrets, ...new Set(kept.map(({ release }) => release))];
  await commands.change(lease, { text, args, failure: "old secrets could not be removed" });
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
