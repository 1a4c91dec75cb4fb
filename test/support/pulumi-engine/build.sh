#!/usr/bin/env bash
# build.sh CACHE: the `pulumi` command with the hosts of its Node programs and policy packs, built from their Go modules once.
# Prints the folder whose `bin` holds them.
#
# What is built is the engine as released, with two differences (engine.patch):
#   - no state or keys in the clouds of AWS, Azure, Google and HashiCorp, and no logs from there: half of what would be compiled.
#     State in files and secrets by passphrase, which the tests use, stay.
#   - a passphrase is stretched a thousand times, not a million: every command that opens a stack would cost 1.2 s of CPU.
#     A state of this engine cannot be opened by a released one.
#
# Go is the one on PATH when it is new enough, or comes from the module proxy (GOPROXY). Every module is checked by Go itself
# against the sums that its own module lists, those against Go's checksum database. Modules and compiled packages are kept until
# the build succeeded and then deleted.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../made-once.sh
. "$here/../made-once.sh"
# shellcheck source=find-go.sh
. "$here/find-go.sh"
cache=$1/pulumi-engine
engine=v3.200.0 # The newest whose modules are there.
language=v3.60.0 # The last `sdk` that carried the Node language host; later ones have it in a module that is not published.
oldest_go=26

say() { printf 'pulumi-engine: %s\n' "$*" >&2; }

made_once "$cache/" "$here"/{build.sh,engine.patch,find-go.sh,go_toolchain.py}
command -v patch >/dev/null || { say "patch is missing: apt-get install patch"; exit 1; }

# module PATH VERSION FOLDER: a module's own copy of its files.
module() {
  local source
  # Asked outside of any module, so that none is changed by it.
  source=$(cd "$work" && "$go" mod download -json "$1@$2" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  [[ -n $source ]] || { say "$1@$2 cannot be had; is GOPROXY right?"; return 1; }
  cp -r "$source" "$work/$3"
  chmod -R u+w "$work/$3"
}

# compile FOLDER PACKAGE NAME [LDFLAG...]
compile() {
  local folder=$1 package=$2 name=$3
  shift 3
  say "compiling $name"
  (cd "$work/$folder" && nice -n 19 "$go" build -trimpath -buildvcs=false -ldflags "-s -w $*" -o "$work/bin/$name" "$package")
}

go=$(find_go "$oldest_go" "$work/toolchain")
# Nothing of the person's own settings for Go but where modules come from, and nothing into their caches.
export GOENV=off GOFLAGS=-modcacherw GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0 GO111MODULE=on
export GOPATH=$cache/go GOMODCACHE=$cache/go/modules GOCACHE=$cache/go/build
SECONDS=0
say "fetching pulumi $engine (two to six minutes on two cores, once)"
module github.com/pulumi/pulumi/pkg/v3 "$engine" pkg
module github.com/pulumi/pulumi/sdk/v3 "$engine" sdk
module github.com/pulumi/pulumi/sdk/v3 "$language" language
rm "$work"/pkg/operations/operations_{aws,gcp,cloud_aws}.go
patch --quiet --directory "$work" --strip 1 <"$here/engine.patch" >&2
mkdir "$work/bin"
compile pkg ./cmd/pulumi pulumi -X "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=$engine"
compile language ./nodejs/cmd/pulumi-language-nodejs pulumi-language-nodejs
# Runs policy packs; a script, the same in every release.
install -m 0755 "$work/language/nodejs/dist/pulumi-analyzer-policy" "$work/bin/"
rm -rf "$work"/{pkg,sdk,language,toolchain}
rm -rf "$cache/go"
say "built in $SECONDS s"
made
