# shellcheck shell=bash
# Ends and removes the agent that gpuctl installed, with what runs in it, and nothing else of the host. Volumes of pods that lie on its
# disk stay: they may be the only copy of an index.

main() {
  local made=/var/lib/gpuctl/host/k3s-agent home=/var/lib/rancher/k3s mounted left
  [[ -e $made ]] || return 0
  systemctl disable --quiet --now k3s-agent.service 2>/dev/null
  # Containers outlive the agent: their shims are told by their path.
  pkill -9 -f "^$home/data/[0-9a-f]*/bin/containerd-shim" 2>/dev/null
  while read -r mounted; do umount -l "$mounted"; done < <(below | sort -r)
  left=$(below)
  if [[ -n $left ]]; then
    printf 'these are still mounted, and nothing below them was removed:\n%s\n' "$left" >&2
    return 1
  fi
  ip link delete cni0 2>/dev/null
  ip link delete flannel.1 2>/dev/null
  rm -rf --one-file-system /var/lib/kubelet /run/k3s
  if [[ -d $home ]]; then find "$home" -mindepth 1 -maxdepth 1 ! -name storage -exec rm -rf --one-file-system {} +; fi
  rmdir "$home/storage" "$home" 2>/dev/null
  if [[ -d $home/storage ]]; then echo "volumes of pods were left in $home/storage"; fi
  rm -f /etc/systemd/system/k3s-agent.service /etc/rancher/k3s/config.yaml /etc/rancher/k3s/gpuctl-token /usr/local/bin/k3s "$made"
  systemctl daemon-reload
}

below() { awk '$2 ~ "^/(run/k3s|var/lib/rancher/k3s|var/lib/kubelet)" { print $2 }' /proc/self/mounts; }
