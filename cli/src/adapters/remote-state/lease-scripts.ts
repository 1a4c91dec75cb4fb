import { newestToken, begin, locking, ownership, receiving } from "./script-parts.js";

/** Without a heartbeat for this long, by the node's own clock, a lease is over. */
export const expiresAfterSeconds = 30;
/** Old leases that are kept: enough to read what happened, few enough to list at every heartbeat. */
const kept = 8;

/**
 * `clock PROC` and `look`: the newest lease and what it is by the node's clock and boot id. A lease is `<token>.lease`: the taker's
 * nonce, the boot id and the seconds since boot on one line, who took it as JSON on the next. `<token>.beat` holds the number of the
 * newest heartbeat and its seconds since boot; it is overwritten in place, which works on a full disk and never shows half a number.
 */
const looking = `${newestToken}
clock() {
  boot='' up=''
  read -r boot <"$1/sys/kernel/random/boot_id" && read -r up _ <"$1/uptime" || { tell "$1 cannot be read"; exit 1; }
  plain "\${up%%.*}"; up=$n
}
look() {
  readable "$root"; readable "$dir"; newest "$dir"; state=none holder='' beats=0 at=0 file=''
  if [ "$last" -eq 0 ]; then return 0; fi
  file=$dir/$(printf '%08d' "$last") taken_boot=''
  if [ -f "$file.lease" ]; then read -r holder taken_boot at _ <"$file.lease"; fi
  if [ -f "$file.beat" ]; then read -r beats beat_at _ <"$file.beat"; plain "$beats"; beats=$n; plain "$beat_at"; at=$n; fi
  plain "$at"; at=$n
  if [ -e "$file.released" ]; then state=released
  elif [ "$taken_boot" != "$boot" ]; then state=gone
  elif [ $((up - at)) -gt ${expiresAfterSeconds} ]; then state=expired
  else state=live; fi
}
report() {
  printf 'verdict %s\\ntoken %s\\nstate %s\\nsilent %s\\nnonce %s\\n' "$1" "$last" "$state" "$((up - at))" "$holder"
  if [ -f "$file.lease" ]; then printf 'entry '; tail -n +2 "$file.lease" | head -n 1; echo; fi
}`;

/** Arguments: PROC. Prints the newest lease and changes nothing. */
export const lookScript = `${begin}
${looking}
dir=$root/leases; clock "$1"; look; report seen`;

/**
 * Arguments: PROC MODE NONCE OVER BYTES; MODE is \`take\`, \`break\` or \`force\`. OVER is a token whose holder is known to be gone, or 0.
 * Takes the next token unless the newest lease is live, and prints the lease before it and \`took TOKEN\`. A taker that asks again,
 * because it never heard the answer, gets what it has. To break a lease is to take the next one and to give it back at once: that
 * fences off whatever the old holder still does.
 */
export const takeScript = `${begin}
${ownership}
${receiving}
${locking}
${looking}
dir=$root/leases mode=$2 nonce=$3 over=$4
home; place "$dir"; receive "$dir" "$5"; lock "$dir"; clock "$1"; look
if [ "$holder" = "$nonce" ] && { [ "$state" = live ] || [ "$mode" != take ]; }; then report mine; exit 0; fi
if [ "$mode" != take ] && { [ "$state" = none ] || [ "$state" = released ]; }; then report none; exit 0; fi
if [ "$state" = live ] && [ "$last" != "$over" ] && [ "$mode" != force ]; then report held; exit 0; fi
token=$((last + 1)); next=$dir/$(printf '%08d' "$token")
{ printf '%s %s %s\\n' "$nonce" "$boot" "$up"; cat "$new"; } >"$new.l" && printf '%10d %10d\\n' 0 "$up" >"$new.b" || exit 1
durable "$new.l" && durable "$new.b" || exit 1
# The one step that fails when somebody else was first.
if ! said=$(ln "$new.l" "$next.lease" 2>&1); then
  if [ -e "$next.lease" ]; then report again; exit 0; fi
  tell "$said"; exit 1
fi
if [ "$mode" != take ]; then : >"$next.released" || { rm -f "$next.lease"; exit 1; }; fi
mv -f "$new.b" "$next.beat" && durable "$dir" || exit 1
before=$last; newest "$dir"
if [ "$last" != "$token" ]; then report again; exit 0; fi
last=$before; report taken; printf 'took %s\\n' "$token"
for old in "$dir"/*.lease; do
  plain "$(basename "$old" .lease)"
  if [ "$n" -le $((token - ${kept})) ]; then rm -f "\${old%.lease}.beat" "\${old%.lease}.released" "$old"; fi
done`;

/** Arguments: PROC TOKEN NONCE COUNT. Proves that the holder lives, and prints \`kept\` or \`lost\`. */
export const beatScript = `${begin}
${looking}
dir=$root/leases; clock "$1"; look
if [ "$last" = "$2" ] && [ "$holder" = "$3" ] && { [ "$state" = live ] || [ "$state" = expired ]; }; then
  printf '%10d %10d\\n' "$4" "$up" 1<>"$file.beat" || exit 1
  report kept
else report lost; fi`;

/** Arguments: TOKEN NONCE. Gives a lease back that is still this taker's; any other is left alone. */
export const releaseScript = `${begin}
lease=$root/leases/$(printf '%08d' "$1") holder=''
if [ -f "$lease.lease" ]; then read -r holder _ <"$lease.lease"; fi
if [ "$holder" = "$2" ]; then : >>"$lease.released" || exit 1; fi`;
