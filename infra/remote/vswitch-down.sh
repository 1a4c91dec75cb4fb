# shellcheck shell=bash
# Takes the VLAN away that GPUCTL_OWNER got; another node that the box is now has brought its own.

main() {
  local owner
  owner=$(cat /var/lib/gpuctl/host/owner 2>/dev/null)
  [[ -z $owner || $owner == "$GPUCTL_OWNER" ]] || return 0
  systemctl disable --quiet --now gpuctl-vswitch.service 2>/dev/null
  rm -f /etc/systemd/system/gpuctl-vswitch.service
  systemctl daemon-reload
}
