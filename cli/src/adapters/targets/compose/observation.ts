import { insidePort } from "../../../domain/compose/inside.js";
import { requestsInFlight, type UpstreamState } from "../../../domain/compose/caddy-output.js";
import { readInspect, type ContainerFacts } from "../../../domain/compose/container-output.js";
import { slotName } from "../../../domain/compose/names.js";
import type { CompanionRole } from "../../../domain/compose/render-compose.js";
import { observeContainer, type ContainerObservation } from "../../../domain/compose/observe-container.js";
import { readGate, type Gate } from "../../../domain/compose/traffic.js";
import type { InstanceObservation } from "../../../ports.js";
import { readOrder, type Order } from "./orders.js";

/**
 * Arguments: ROOT PROJECT-FILTER ENVIRONMENT-FILTER FILE…. One look at a host: its boot, the gates, the orders, hashes of the files that
 * are there, and every container of the environment as `docker inspect` shows it. It ends with 0 also when Docker does not answer: then that is what was seen.
 */
export const observing = `root=$1
printf 'btime %s\\n' "$(sed -n 's/^btime //p' /proc/stat)"
read -r up _ </proc/uptime; printf 'up %s %s\\n' "\${up%%.*}" "$(cat /proc/sys/kernel/random/boot_id)"
for kind in gates orders; do
  for f in "$root/$kind"/*; do
    case $f in *.new|*.claimed) continue ;; esac
    if [ -f "$f" ]; then printf '%s %s %s\\n' "$kind" "\${f##*/}" "$(head -c 200 "$f" | head -n 1)"; fi
  done
done
fp=$2 fe=$3; shift 3
for f in "$@"; do
  if [ -f "$f" ]; then printf 'file %s %s\\n' "$(sha256sum <"$f" | cut -c1-64)" "$f"; fi
done
ids=$(docker ps --all --quiet --no-trunc --filter "$fp" --filter "$fe" 2>&1); s=$?
if [ $s != 0 ]; then printf 'docker %s %s\\n' $s "$(printf %s "$ids" | tr '\\n' ' ')"; exit 0; fi
printf 'docker 0 ok\\n'
if [ -n "$ids" ]; then docker inspect $ids 2>/dev/null; fi
exit 0`;

/** What one look at a host has shown. */
export interface HostView {
  bootedAt: number | null;
  /** Seconds since boot, whole. */
  uptime: number;
  bootId: string;
  gates: ReadonlyMap<string, Gate>;
  orders: ReadonlyMap<string, Order>;
  /** SHA-256 by path, of the files that were asked for and are there. */
  files: ReadonlyMap<string, string>;
  /** Docker's words when it does not answer, else null. */
  silent: string | null;
  containers: readonly ContainerFacts[];
}

export function readHostView(text: string): HostView {
  const at = text.search(/^docker \d+ .*$/m);
  const head = (at === -1 ? text : text.slice(0, at)).split("\n").map((line) => line.split(" "));
  const of = (kind: string): readonly (readonly [string, string])[] =>
    head.filter(([word]) => word === kind).map(([, name = "", ...rest]) => [name, rest.join(" ")]);
  const [uptime, bootId] = of("up")[0] ?? ["0", ""];
  const btime = Number(of("btime")[0]?.[0] ?? "");
  const orders = of("orders").flatMap(([id, line]) => {
    const order = readOrder(line);
    return order === null ? [] : [[id, order] as const];
  });
  const orderOf = new Map(orders);
  const gateOf = (id: string, line: string): Gate => {
    const order = orderOf.get(id);
    const sameBoot = order?.kind !== "suspended" || order.bootId === bootId;
    return readGate(line, { uptime: Number(uptime), sameBoot });
  };
  const [status = "docker 1 it gave no answer", ...json] = at === -1 ? [] : text.slice(at).split("\n");
  return {
    bootedAt: btime > 0 ? btime * 1000 : null,
    uptime: Number(uptime),
    bootId,
    gates: new Map(of("gates").map(([id, line]) => [id, gateOf(id, line)])),
    orders: orderOf,
    files: new Map(of("file").map(([hash, path]) => [path, hash])),
    silent: status.startsWith("docker 0 ") ? null : status.replace(/^docker \d+ /, "").trim(),
    containers: readInspect(json.join("\n")) ?? [],
  };
}

/** Every instance in a slot; the CPU instance is no place that a release is in. */
export function observedInstances(view: HostView, upstreams: readonly UpstreamState[] | null): readonly InstanceObservation[] {
  return view.containers.flatMap((facts) => {
    const id = facts.labels["dev.gpuctl.instance"] ?? "";
    const order = view.orders.get(id) ?? null;
    const around = {
      gate: view.gates.get(id) ?? "closed",
      bootedAt: view.bootedAt,
      inflight: inflightOf(facts, upstreams),
      stopsInMs: order?.kind === "stop" && order.bootId === view.bootId ? Math.max(0, order.at - view.uptime) * 1000 : null,
    } as const;
    const seen = observeContainer(facts, around);
    return seen === null ? [] : (inSlot(seen, order) ?? []);
  });
}

function inSlot(seen: ContainerObservation, order: Order | null): InstanceObservation | null {
  const { id, service, release, slot, restarts, inflight, stopsInMs } = seen;
  if (slot === "cpu") return null;
  // A person's or our own `docker stop` leaves the same exit status as a service that ended by itself; the order tells them apart.
  const onPurpose = seen.process.state === "exited" && (order?.kind === "stopped" || order?.kind === "suspended");
  const process = onPurpose ? ({ state: "stopped" } as const) : seen.process;
  const traffic = onPurpose ? "closed" : seen.traffic;
  return { id, service, release, slot, process, traffic, restarts, inflight, stopsInMs };
}

function inflightOf({ labels }: ContainerFacts, upstreams: readonly UpstreamState[] | null): number | null {
  const service = labels["dev.gpuctl.service"];
  const slot = labels["dev.gpuctl.slot"];
  if (upstreams === null || (service !== "embedder" && service !== "reranker" && service !== "index")) return null;
  if (slot !== "a" && slot !== "b" && slot !== "cpu") return null;
  return requestsInFlight(upstreams, `${slotName(service, slot)}:${insidePort[service]}`);
}

/** The container of what stands beside the instances, among those of the environment. */
export const companionOf = (view: HostView, role: CompanionRole): ContainerFacts | null =>
  view.containers.find(({ labels }) => labels["dev.gpuctl.role"] === role) ?? null;
