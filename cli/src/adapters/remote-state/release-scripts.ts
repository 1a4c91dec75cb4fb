import { fencing } from "./fence.js";
import { begin, locking, ownership, receiving, statuses } from "./script-parts.js";

/** More than this of one record is not read: no record comes near it. */
const recordLimit = 4 * 1024 * 1024;

/**
 * Arguments: MARK. Every record in one answer: a line \`MARK file NAME\` before each, and \`MARK end\`; the mark is random, so that no
 * content passes for it. What is no plain file is named and not read.
 */
export const listScript = `${begin}
readable "$root"; readable "$root/releases"
for file in "$root"/releases/r*.json; do
  name=\${file##*/}
  case $name in *.secrets.json|*[!0-9a-z.-]*) continue;; esac
  if [ -h "$file" ]; then printf '%s odd %s\\n' "$1" "$name"
  elif [ -f "$file" ]; then printf '%s file %s\\n' "$1" "$name"; head -c ${recordLimit} "$file" 2>/dev/null; echo
  elif [ -e "$file" ]; then printf '%s odd %s\\n' "$1" "$name"; fi
done
printf '%s end\\n' "$1"`;

const writing = `${begin}
${ownership}
${receiving}
${locking}
${fencing}
dir=$root/releases; record=$dir/$1.json secrets=$dir/$1.secrets.json
home; place "$dir"`;

const fenced = `lock "$root/leases"; fence "$root/leases" "$2" "$3" "$4"`;

/**
 * Arguments: ID PROC TOKEN NONCE BYTES SECRETS; the input is the sealed secrets on one line (used when SECRETS is 1) and the sealed
 * record on the next. Nothing has its name before its bytes are on the disk, and the secrets come first: a record that can be read
 * is complete. The same record again is no error, as whoever sent it may not have heard the answer.
 */
export const createScript = `${writing}
receive "$dir" "$5"
head -n 1 "$new" >"$new.s" && tail -n +2 "$new" >"$new.r" || exit 1
durable "$new.s" && durable "$new.r" || exit 1
${fenced}
if [ -e "$record" ] || [ -h "$record" ]; then
  if [ -h "$record" ] || [ "$(cat "$new.r")" != "$(cat "$record")" ]; then exit ${statuses.exists}; fi
fi
if [ "$6" = 1 ]; then mv -f "$new.s" "$secrets" && durable "$dir" || exit 1; fi
if [ ! -e "$record" ]; then ln "$new.r" "$record" || { rm -f "$secrets"; exit 1; }; fi
durable "$dir"`;

/** Arguments: ID PROC TOKEN NONCE BYTES; the input is the sealed record, which replaces the one there is. */
export const updateScript = `${writing}
receive "$dir" "$5"
durable "$new" || exit 1
${fenced}
if [ -h "$record" ] || [ ! -f "$record" ]; then exit ${statuses.missing}; fi
mv -f "$new" "$record" && durable "$dir"`;

/** Arguments: ID PROC TOKEN NONCE. The record first: secrets without a record are litter, a record without its secrets is a lie. */
export const removeScript = `${begin}
${ownership}
${locking}
${fencing}
dir=$root/releases
if [ ! -d "$dir" ]; then exit 0; fi
home; safe "$dir"
${fenced}
rm -f "$dir/$1.json" && rm -f "$dir/$1.secrets.json" && durable "$dir"`;

/** Arguments: ID. Prints the sealed secrets of a release, or nothing when it has none. */
export const secretsScript = `${begin}
${ownership}
readable "$root"; readable "$root/releases"
secrets=$root/releases/$1.secrets.json
if [ ! -e "$secrets" ] && [ ! -h "$secrets" ]; then exit 0; fi
safe "$root"; safe "$root/releases"; trusted "$secrets"; cat "$secrets"`;

/**
 * Arguments: BYTES. Prints the key of this environment; with an input that becomes the key when there is none. Whoever is first
 * decides, so every contender gets the same one.
 */
export const keyScript = `${begin}
${ownership}
${receiving}
readable "$root"
key=$root/hmac.key
if [ "$1" != 0 ] && [ ! -e "$key" ] && [ ! -h "$key" ]; then
  home; receive "$root" "$1"; durable "$new" || exit 1
  said=$(ln "$new" "$key" 2>&1) || [ -e "$key" ] || { tell "$said"; exit 1; }
  durable "$root"
fi
if [ -e "$key" ] || [ -h "$key" ]; then safe "$root"; trusted "$key"; cat "$key"; fi`;
