#!/usr/bin/env bash
# build.sh CACHE: Pebble, the ACME server that Let's Encrypt tests clients with, and the DNS server that comes with it, built from
# their Go module once. Prints the folder that holds `pebble` and `pebble-challtestsrv`.
#
# Go is the one on PATH when it is new enough, or comes from the module proxy (GOPROXY). Every module is checked by Go itself against
# Go's checksum database. Modules and compiled packages are deleted in the end. A folder appears by one rename; whoever comes second
# waits for the first.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=$1/pebble
version=v2.10.1
oldest_go=24

say() { printf 'pebble: %s\n' "$*" >&2; }

made=$cache/$(sha256sum "$0" | cut -c1-16)
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [[ -e $made/complete ]]; then
  echo "$made"
  exit 0
fi

work=$(mktemp -d "$cache/making.XXXXXX")
trap 'rm -rf "$work"' EXIT
found=$(go env GOVERSION 2>/dev/null || true)
if [[ $found =~ ^go1\.([0-9]+) ]] && ((BASH_REMATCH[1] >= oldest_go)); then
  go=$(command -v go)
else
  say "no Go 1.$oldest_go on PATH${found:+ (it is $found)}: fetching one"
  go=$(python3 "$here/../pulumi-engine/go_toolchain.py" "$work/toolchain")
fi
say "building $version (half a minute on two cores, once)"
# Nothing of the person's own settings for Go but where modules come from, and nothing into their caches.
export GOENV=off GOFLAGS="-modcacherw -trimpath" GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0 GO111MODULE=on
export GOPATH=$work/go GOCACHE=$work/go/build GOBIN=$work
(cd "$work" && nice -n 19 "$go" install -ldflags "-s -w" github.com/letsencrypt/pebble/v2/cmd/{pebble,pebble-challtestsrv}@"$version") >&2
rm -rf "$work"/{go,toolchain}
touch "$work/complete"
chmod 0755 "$work"
rm -rf "$made"
mv "$work" "$made"
echo "$made"
