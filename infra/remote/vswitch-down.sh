# shellcheck shell=bash

main() {
  systemctl disable --quiet --now gpuctl-vswitch.service 2>/dev/null
  rm -f /etc/systemd/system/gpuctl-vswitch.service
  systemctl daemon-reload
}
