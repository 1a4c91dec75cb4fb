#!/usr/bin/env bash
# build.sh CACHE: Pebble, the ACME server that Let's Encrypt tests clients with, and the DNS server that comes with it, built from
# their Go module once. Prints the folder that holds `pebble` and `pebble-challtestsrv`.
#
# Go is the one on PATH when it is new enough, or comes from the module proxy (GOPROXY). Every module is checked by Go itself against
# Go's checksum database. Modules and compiled packages are deleted in the end.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../made-once.sh
. "$here/../made-once.sh"
# shellcheck source=../pulumi-engine/find-go.sh
. "$here/../pulumi-engine/find-go.sh"
version=v2.10.1
oldest_go=24

made_once "$1/pebble/" "$0"
go=$(find_go "$oldest_go" "$work/toolchain")
printf 'building pebble %s (half a minute on two cores, once)\n' "$version" >&2
# Nothing of the person's own settings for Go but where modules come from, and nothing into their caches.
export GOENV=off GOFLAGS="-modcacherw -trimpath" GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0 GO111MODULE=on
export GOPATH=$work/go GOCACHE=$work/go/build GOBIN=$work
(cd "$work" && nice -n 19 "$go" install -ldflags "-s -w" github.com/letsencrypt/pebble/v2/cmd/{pebble,pebble-challtestsrv}@"$version") >&2
rm -rf "$work"/{go,toolchain}
made
