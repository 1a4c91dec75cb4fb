# shellcheck shell=bash
# To be sourced. find_go MINOR FOLDER: prints the `go` of PATH where it is 1.MINOR or newer, else one of the module proxy (GOPROXY),
# unpacked below FOLDER.

find_go() {
  local version
  version=$(go env GOVERSION 2>/dev/null || true)
  if [[ $version =~ ^go1\.([0-9]+) ]] && ((BASH_REMATCH[1] >= $1)); then
    command -v go
    return
  fi
  printf 'no Go 1.%s on PATH%s: fetching one\n' "$1" "${version:+ (it is $version)}" >&2
  python3 "$(dirname "${BASH_SOURCE[0]}")/go_toolchain.py" "$2"
}
