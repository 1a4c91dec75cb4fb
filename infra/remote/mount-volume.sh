# shellcheck shell=bash
# Mounts the volume whose unit was just delivered, and lets its file system have all of a disk that has grown. GPUCTL_DEVICE: its path; it may appear a little after it was attached.

main() {
  local n
  for ((n = 0; n < 60; n++)); do
    [[ -b $GPUCTL_DEVICE ]] && break
    sleep 1
  done
  [[ -b $GPUCTL_DEVICE ]] || {
    echo "$GPUCTL_DEVICE did not appear: is the volume attached to this server?" >&2
    return 1
  }
  if ! { mkdir -p /srv/gpuctl && systemctl daemon-reload && systemctl enable --quiet --now srv-gpuctl.mount; }; then
    systemctl status --no-pager srv-gpuctl.mount >&2
    return 1
  fi
  # Nothing to do is no error to it.
  if ! resize2fs "$GPUCTL_DEVICE" >&2; then
    echo "the file system of $GPUCTL_DEVICE could not be grown to the size of its disk" >&2
    return 1
  fi
  echo 'mounted at /srv/gpuctl'
}
