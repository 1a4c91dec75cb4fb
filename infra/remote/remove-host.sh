# shellcheck shell=bash
# Takes away what the preparation made; Docker, driver, toolkit and everything that was there before stay.

main() {
  local status
  bash /run/gpuctl-removal/prepare-host.sh --remove >&2
  status=$?
  rm -rf /run/gpuctl-removal
  return "$status"
}
