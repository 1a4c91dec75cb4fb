# shellcheck shell=bash
# To be sourced: a folder of the cache that is made once, and appears complete by one rename. Whoever comes second waits for the first.
#
#   made_once PREFIX FILE...  names the folder by PREFIX and what the FILEs hold, which has to be all that it is made from. Prints it
#                             and ends the script where it is there; else $work is where to make it.
#   made                      $work is complete: moves it to its place and prints that.

made_once() {
  local cache=${1%/*}
  place=$1$(cat "${@:2}" | sha256sum | cut -c1-16)
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  flock -n 9 || { echo "another process is making what is to lie in $cache: waiting" >&2; flock 9; }
  if [[ -e $place/complete ]]; then
    echo "$place"
    exit 0
  fi
  work=$(mktemp -d "$cache/making.XXXXXX")
  trap 'rm -rf --one-file-system "$work"' EXIT
}

made() {
  touch "$work/complete"
  chmod 0755 "$work"
  rm -rf --one-file-system "$place"
  mv "$work" "$place"
  echo "$place"
}
