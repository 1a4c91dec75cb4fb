# shellcheck shell=bash
# Ends and removes the agent that gpuctl installed, with what runs in it, and nothing else of the host.

main() {
  local made=/var/lib/gpuctl/host/k3s-agent mounted
  [[ -e $made ]] || return 0
  systemctl disable --quiet --now k3s-agent.service 2>/dev/null
  # Containers outlive the agent: their shims are told by their path.
  pkill -9 -f '^/var/lib/rancher/k3s/data/[0-9a-f]*/bin/containerd-shim' 2>/dev/null
  while read -r mounted; do umount -l "$mounted"; done < <(
    awk '$2 ~ "^/(run/k3s|var/lib/rancher/k3s|var/lib/kubelet)" { print $2 }' /proc/self/mounts | sort -r
  )
  ip link delete cni0 2>/dev/null
  ip link delete flannel.1 2>/dev/null
  rm -rf /var/lib/rancher/k3s /var/lib/kubelet /run/k3s
  rm -f /etc/systemd/system/k3s-agent.service /etc/rancher/k3s/config.yaml /etc/rancher/k3s/gpuctl-token /usr/local/bin/k3s "$made"
  systemctl daemon-reload
}
