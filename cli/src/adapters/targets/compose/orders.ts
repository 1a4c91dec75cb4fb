import type { InstanceId } from "../../../domain/names.js";

/** What was ordered for an instance beyond its gate: one line in `orders/<instance>`, by the host's own uptime and boot id. */
export type Order =
  /** It was ended on purpose and is to stay so. */
  | { kind: "stopped" }
  /** It is to be ended once the host has been up for so many seconds. */
  | { kind: "stop"; at: number; bootId: string }
  /** It made room for its successor, and comes back then at the latest. */
  | { kind: "suspended"; at: number; bootId: string };

/** Reads the line of an order; null for what is none. */
export function readOrder(line: string): Order | null {
  const [kind, at, bootId] = line.trim().split(" ");
  if (kind === "stopped") return { kind };
  if ((kind !== "stop" && kind !== "suspended") || bootId === undefined || !/^\d+$/.test(at ?? "")) return null;
  return { kind, at: Number(at), bootId };
}

/**
 * Shared by all scripts. `container ID` prints the container of an instance, if there is one; `say FILE WORD` replaces a small file, durably:
 * one that a power cut leaves empty would be a closed gate.
 * Arguments of every script begin with ROOT PROJECT-FILTER ENVIRONMENT-FILTER ID.
 */
export const orderParts = `root=$1 fp=$2 fe=$3 id=$4; shift 4
order=$root/orders/$id
container() { docker ps --all --quiet --no-trunc --filter "$fp" --filter "$fe" --filter "label=dev.gpuctl.instance=$1"; }
durable() { sync "$1" 2>/dev/null || sync; }
say() {
  printf '%s\\n' "$2" >"$1.$$.new" && chmod 644 "$1.$$.new" && durable "$1.$$.new" || return
  mv -f "$1.$$.new" "$1" && durable "$(dirname "$1")"
}
gate() { say "$root/gates/$1" "$2"; }
now() { read -r up _ </proc/uptime; echo "\${up%%.*}"; }`;

/** Makes the gate of an instance say a word. Arguments: WORD. */
export const gateScript = `${orderParts}
gate "$id" "$1"`;

/** Says whether an instance's container comes back by itself. Arguments: POLICY. */
export const restartScript = `${orderParts}
c=$(container "$id") || exit
if [ -z "$c" ]; then echo "there is no container of $id" >&2; exit 1; fi
docker update --restart "$1" "$c" >/dev/null`;

/** Ends an instance for good. Its container stays, so that it can be started again. */
export const stopScript = `${orderParts}
say "$order" stopped && gate "$id" closed || exit 1
c=$(container "$id") || exit
if [ -n "$c" ]; then docker update --restart no "$c" >/dev/null && docker stop "$c" >/dev/null; fi`;

/** Takes an order back. A timer that finds another order than its own ends without doing anything. */
export const forgetOrderScript = `${orderParts}
rm -f "$order"`;

/**
 * What waits on the host for an order to be due, in a session of its own that outlives whoever ordered. It claims the order by renaming
 * it, so an order that was taken back in the meantime is never carried out.
 */
const timing = `line=$(cat "$order") || exit 0
due() { set -- $line; [ "$(now)" -ge "$2" ]; }
mine() { [ "$(cat "$order" 2>/dev/null)" = "$line" ]; }
claim() { mine && mv "$order" "$order.claimed"; }`;

const stopWhenDue = `${orderParts}
${timing}
until due; do mine || exit 0; sleep 1; done
claim || exit 0
c=$(container "$id")
gate "$id" closed
if [ -n "$c" ]; then docker update --restart no "$c"; docker stop "$c"; fi
say "$order" stopped; rm -f "$order.claimed"`;

/**
 * Arguments: SERVICE LEASE. The instance comes back, also one that was never ended, when the order is due, or earlier when the lease
 * of whoever ordered was lost or given back without a successor: LEASE is the path of the lease's files without their ending. A
 * successor that is open settles it.
 */
const restoreWhenDue = `${orderParts}
${timing}
service=$1 lease=$2
alone() {
  if [ -e "$lease.released" ]; then return 0; fi
  if [ ! -f "$lease.beat" ]; then return 1; fi
  read -r _ beat <"$lease.beat"; beat=\${beat#"\${beat%%[!0]*}"}
  [ $(($(now) - \${beat:-0})) -gt 30 ]
}
others() {
  docker ps --all --no-trunc --filter "$fp" --filter "$fe" --filter "label=dev.gpuctl.service=$service" \\
    --format '{{.ID}} {{.Label "dev.gpuctl.slot"}}' | sed -n "/^$c /d; / cpu\$/d; s/ .*//p"
}
nameof() { docker inspect --format '{{index .Config.Labels "dev.gpuctl.instance"}}' "$1"; }
until due || alone; do mine || exit 0; sleep 1; done
c=$(container "$id")
# To start what is still ending would change nothing; what nobody ends is not waited for.
ending() {
  case $(cat "$root/gates/$id") in closed*) ;; *) return 1 ;; esac
  [ "$(docker inspect --format '{{.State.Running}}' "$c")" = true ]
}
n=0
until_ended() { while [ $n -lt 150 ] && ending; do "$@" || exit 0; sleep 1; n=$((n + 1)); done; }
until_ended mine
claim || exit 0
# Whoever ends it closes its gate and then looks for the order: what the gate says now is the last word on that.
until_ended true
for other in $(others); do
  if [ "$(cat "$root/gates/$(nameof "$other")" 2>/dev/null)" = open ]; then
    gate "$id" closed; docker update --restart no "$c"; say "$order" stopped; rm -f "$order.claimed"; exit 0
  fi
done
# The device has room for one of them.
for other in $(others); do docker update --restart no "$other"; docker stop "$other"; done
gate "$id" open
docker update --restart always "$c"; docker start "$c"
rm -f "$order.claimed"`;

const detach = (script: string): string =>
  `setsid sh -c '${script.replaceAll("'", `'\\''`)}' gpuctl-timer "$root" "$fp" "$fe" "$id" "$@" </dev/null >/dev/null 2>&1 &`;

const ordering = (kind: "stop" | "suspended"): string => `seconds=$1; shift
say "$order" "${kind} $(($(now) + seconds)) $(cat /proc/sys/kernel/random/boot_id) $$-$(now)" || exit 1`;

/** Arguments: SECONDS. Ends an instance later. */
export const stopLaterScript = `${orderParts}
${ordering("stop")}
${detach(stopWhenDue)}`;

/**
 * Ends a script that took traffic from an instance which is back: the timer has taken its order away first, and without a timer its
 * time is over. `lend WORD` shuts a gate for only so long as was promised, also where no timer is left.
 */
const promised = `until_due() { set -- $(cat "$order" 2>/dev/null) -; [ "$1" = suspended ] && [ "$(now)" -lt "$2" ] && echo "$2"; }
promised() {
  if until_due >/dev/null; then return 0; fi
  gate "$id" open; echo "it was brought back: whoever asks for this was silent for too long, or its time was over" >&2; exit 1
}
lend() { promised; gate "$id" "$1 until $(until_due)" && promised; }`;

/**
 * Arguments: SECONDS SERVICE. Takes an instance that comes back out of traffic. The timer runs before that, and a container that
 * is stopped under the policy `always` also comes back when Docker or the host is started anew, and its gate opens then by itself
 * (`readGate`), because the timer ended with the host. The lease is the newest one here:
 * hosts count their own, and the guard of a change has just seen that it is the one who orders this. Without leases only the time counts.
 */
export const suspendScript = `${orderParts}
${promised}
c=$(container "$id") || exit
if [ -z "$c" ]; then echo "there is no container of $id" >&2; exit 1; fi
docker update --restart always "$c" >/dev/null || exit
${ordering("suspended")}
lease=''
for f in "$root/leases"/[0-9]*.lease; do if [ -f "$f" ]; then lease=\${f%.lease}; fi; done
set -- "$1" "$lease"
${detach(restoreWhenDue)}
lend paused`;

/**
 * Ends an instance that was suspended and has answered what it had. Its gate is closed only meanwhile: by that the timer knows that
 * it is ending.
 */
export const makeRoomScript = `${orderParts}
${promised}
lend closed || exit 1
c=$(container "$id") || exit
docker stop "$c" >/dev/null && gate "$id" open`;

/** Arguments: none. A successor serves: what made room for it stays ended. */
export const settleScript = `${orderParts}
case $(cat "$order" 2>/dev/null) in suspended*) ;; *) exit 0 ;; esac
say "$order" stopped && gate "$id" closed
c=$(container "$id"); if [ -n "$c" ]; then docker update --restart no "$c" >/dev/null; fi`;

/** The arguments that every script here begins with. */
export const orderArguments = (root: string, filters: readonly string[], id: InstanceId): readonly string[] => [
  root,
  ...filters,
  id,
];
