# shellcheck shell=bash
# Mounts the volume whose unit was just delivered. GPUCTL_DEVICE: its path; it may appear a little after it was attached.

main() {
  local n
  for ((n = 0; n < 60; n++)); do
    [[ -b $GPUCTL_DEVICE ]] && break
    sleep 1
  done
  mkdir -p /srv/gpuctl && systemctl daemon-reload && systemctl enable --quiet srv-gpuctl.mount && systemctl restart srv-gpuctl.mount || {
    systemctl status --no-pager srv-gpuctl.mount >&2
    return 1
  }
  echo 'mounted at /srv/gpuctl'
}
