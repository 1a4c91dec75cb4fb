import { begin, locking, ownership, receiving } from "./script-parts.js";

/**
 * Arguments: LIMIT BYTES; the input is one line. A file above LIMIT bytes becomes the one before, which replaces an older one. The
 * line is appended by one write; a line torn by a crash or a full disk does not swallow it.
 */
export const appendScript = `${begin}
${ownership}
${receiving}
${locking}
home; receive "$root" "$2"; lock "$root"
log=$root/audit.jsonl
if [ -e "$log" ] || [ -h "$log" ]; then
  trusted "$log"
  if [ "$(wc -c <"$log")" -gt "$1" ]; then mv -f "$log" "$root/audit.1.jsonl" || exit 1; fi
fi
line=$new
if [ -s "$log" ] && [ -n "$(tail -c 1 "$log")" ]; then { echo; cat "$new"; } >"$new.l" || exit 1; line=$new.l; fi
cat "$line" >>"$log" && durable "$log"`;

/** Arguments: LINES. Prints the last lines of both files. */
export const readScript = `${begin}
readable "$root"
for file in "$root/audit.1.jsonl" "$root/audit.jsonl"; do
  if [ -f "$file" ]; then cat "$file" || exit 1; echo; fi
done | tail -n "$1"`;
