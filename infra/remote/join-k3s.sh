# shellcheck shell=bash
# Makes this host an agent of a k3s cluster; its files were just delivered. GPUCTL_K3S_URL and GPUCTL_K3S_SHA256 are the binary,
# GPUCTL_K3S_FILES a hash over configuration and token. GPUCTL_K3S_ADDRESS is the node's address where pods are to talk over its interface:
# left to itself, flannel takes the one of the default route, which has no private address of the others. k3s looks for the NVIDIA runtime only when it starts, so it comes after the toolkit.

main() {
  local binary=/usr/local/bin/k3s made=/var/lib/gpuctl/host/k3s-agent fresh interface=''
  if [[ -n $GPUCTL_K3S_ADDRESS ]]; then
    interface=$(ip -o address show to "$GPUCTL_K3S_ADDRESS" | awk 'NR == 1 { sub(/@.*/, "", $2); print $2 }')
    if [[ -z $interface ]]; then
      echo "no network interface has the node's address $GPUCTL_K3S_ADDRESS: ip -br address; then correct privateAddress" >&2
      return 1
    fi
    printf 'flannel-iface: "%s"\n' "$interface" >>/etc/rancher/k3s/config.yaml || return 1
  fi
  if [[ $(sha256sum 2>/dev/null <"$binary" | cut -c1-64) != "$GPUCTL_K3S_SHA256" ]]; then
    fresh=$(mktemp "$binary.XXXXXX") || return 1
    if ! fetch "$fresh" || ! chmod 0755 "$fresh" || ! mv "$fresh" "$binary"; then
      rm -f "$fresh"
      echo "$GPUCTL_K3S_URL could not be fetched, or is not the file with SHA-256 $GPUCTL_K3S_SHA256" >&2
      return 1
    fi
    : >"$made"
  fi
  systemctl daemon-reload && systemctl enable --quiet k3s-agent.service || return 1
  if [[ $(cat "$made") != "$GPUCTL_K3S_FILES $interface" ]] || ! systemctl is-active --quiet k3s-agent.service; then
    timeout 300 systemctl restart k3s-agent.service || {
      echo 'the k3s agent did not start; the last lines of its log:' >&2
      journalctl -u k3s-agent -n 20 --no-pager >&2
      return 1
    }
    printf '%s\n' "$GPUCTL_K3S_FILES $interface" >"$made"
  fi
  echo 'joined'
}

fetch() { # fetch FILE
  curl -fsSL --retry 4 --connect-timeout 15 --max-time 600 -o "$1" "$GPUCTL_K3S_URL" &&
    [[ $(sha256sum <"$1" | cut -c1-64) == "$GPUCTL_K3S_SHA256" ]]
}
