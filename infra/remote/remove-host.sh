# shellcheck shell=bash
# Takes away what the preparation made; Docker, driver, toolkit and everything that was there before stay. GPUCTL_OWNER is the node that
# the box was: prepared since then as another one, as after a change of the node's name, it is left as it is.

main() {
  local status owner
  owner=$(cat /var/lib/gpuctl/host/owner 2>/dev/null)
  if [[ -n $owner && $owner != "$GPUCTL_OWNER" ]]; then
    rm -rf /run/gpuctl-removal
    echo "this box is $owner now: nothing was taken away"
    return 0
  fi
  bash /run/gpuctl-removal/prepare-host.sh --remove >&2
  status=$?
  rm -rf /run/gpuctl-removal
  return "$status"
}
