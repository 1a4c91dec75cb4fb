# shellcheck shell=bash
# A vSwitch's VLAN on a dedicated server, as a unit of its own: distributions configure networks in too many ways to edit theirs.

main() {
  [[ -d /sys/class/net/$GPUCTL_INTERFACE ]] || {
    echo "there is no network interface $GPUCTL_INTERFACE: ip -br link" >&2
    return 1
  }
  if ! { systemctl daemon-reload && systemctl enable --quiet gpuctl-vswitch.service && systemctl restart gpuctl-vswitch.service; }; then
    systemctl status --no-pager gpuctl-vswitch.service >&2
    return 1
  fi
}
