/**
 * Parts of the scripts that work on an environment's state on its host: POSIX sh with the tools of coreutils or busybox. They are
 * run as `sh -c SCRIPT gpuctl ROOT …`; no value is ever written into a script, and what is stored comes on stdin.
 */

/** Exit statuses by which a script says why it did nothing. */
export const statuses = {
  /** The input ended early: the connection was lost while it was sent. */
  cut: 65,
  /** A newer lease exists, or this one was released, broken or ended by a reboot. */
  fenced: 81,
  /** Another record has this id. */
  exists: 82,
  /** A file or directory is not what root alone could have made of it. */
  unsafe: 83,
  /** Another script holds the lock of the directory. */
  busy: 84,
  /** There is no record of this id. */
  missing: 85,
} as const;

/**
 * Sets `$root`. Whoever listens may be gone: a script that says so must not die of it and leave something behind. `readable DIR`: a
 * directory that may not be read must never pass for an empty one.
 */
export const begin = `trap '' PIPE; umask 077; LC_ALL=C; export LC_ALL; root=$1; shift
tell() { printf '%s\\n' "$*" >&2; }
readable() { if [ -e "$1" ] && { [ ! -r "$1" ] || [ ! -x "$1" ]; }; then tell "$1: Permission denied"; exit 1; fi; }`;

/**
 * `home`, `place DIR`, `trusted FILE`: made when missing (the first two), refused when somebody else could have changed them, and
 * given their mode when others could only read them.
 */
export const ownership = `facts() { set -f; set -- $(ls -ldn "$1"); set +f; seen_mode=$1 seen_owner=\${3:-}; }
safe() {
  facts "$1"
  case $seen_mode in ?????w*|????????w*) tell "$1 can be written by others: its mode is $seen_mode"; exit ${statuses.unsafe};; esac
  if [ "$seen_owner" != "$(id -u)" ]; then tell "$1 belongs to another user, uid $seen_owner"; exit ${statuses.unsafe}; fi
}
directory() {
  if [ -h "$1" ] || { [ -e "$1" ] && [ ! -d "$1" ]; }; then tell "$1 is not a directory"; exit ${statuses.unsafe}; fi
}
home() {
  directory "$root"
  if [ ! -d "$root" ]; then (umask 022; mkdir -p "$root") || exit 1; sync; fi
  safe "$root"
  if sync "$root" 2>/dev/null; then durable() { sync "$1"; }; else durable() { sync; }; fi
}
place() {
  directory "$1"
  if [ ! -d "$1" ]; then mkdir "$1" 2>/dev/null || [ -d "$1" ] || { mkdir "$1"; exit 1; }; durable "$root"; fi
  safe "$1"
  case $seen_mode in drwx------*) ;; *) chmod 700 "$1" || exit 1;; esac
}
trusted() {
  if [ -h "$1" ] || [ ! -f "$1" ]; then tell "$1 is not a file"; exit ${statuses.unsafe}; fi
  safe "$1"
  case $seen_mode in -r?-------*) ;; *) chmod 600 "$1" || exit 1;; esac
}`;

/** `receive DIR BYTES`: stdin as the file \`$new\` in DIR, removed at the end with everything that is named after it. */
export const receiving = `receive() {
  find "$1" -name '.new.*' -mmin +60 -exec rm -f {} + 2>/dev/null
  new=$(mktemp "$1/.new.XXXXXXXX") || exit 1
  trap 'rm -f "$new" "$new".*' EXIT; trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 143' TERM
  cat >"$new" || exit 1
  if [ "$(wc -c <"$new")" -ne "$2" ]; then tell "the input ended early"; exit ${statuses.cut}; fi
}`;

/**
 * `lock DIR`: until the script ends no other one works there. A host without flock does without: files are still made exclusively,
 * and only the moment between asking the fence and renaming is open.
 */
export const locking = `lock() {
  if [ ! -d "$1" ] || ! command -v flock >/dev/null 2>&1; then return 0; fi
  exec 9<"$1" || exit 1
  tries=0
  until flock -n 9; do
    tries=$((tries + 1))
    if [ "$tries" -gt 50 ]; then tell "another script has been at work in $1 for 5 s"; exit ${statuses.busy}; fi
    sleep 0.1 2>/dev/null || sleep 1
  done
}`;

/** `newest LEASES` sets `$last` to the highest token there is, 0 without any. `plain N` sets `$n`: a number without leading zeros. */
export const newestToken = `plain() {
  n=\${1#"\${1%%[!0]*}"}
  case $n in ''|*[!0-9]*|????????????????*) n=0;; esac
}
newest() {
  last=0
  for lease in "$1"/*.lease; do
    lease=\${lease##*/}; plain "\${lease%.lease}"
    if [ "$n" -gt "$last" ]; then last=$n; fi
  done
}`;
