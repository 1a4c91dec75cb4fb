# shellcheck shell=bash
# Ends and removes the agent that gpuctl installed, with what runs in it, and nothing else of the host. Volumes of pods that lie on its
# disk stay: they may be the only copy of an index. What k3s-killall.sh of a k3s takes away goes, but networks of others below
# /var/lib/cni stay. GPUCTL_K3S_NODE: the node that leaves; an agent that runs under another name since then is left as it is.

main() {
  local made=/var/lib/gpuctl/host/k3s-agent home=/var/lib/rancher/k3s name mounted left
  [[ -e $made ]] || return 0
  name=$(sed -nE 's/^node-name: "?([^"]*)"?$/\1/p' /etc/rancher/k3s/config.yaml 2>/dev/null)
  if [[ -n $name && $name != "$GPUCTL_K3S_NODE" ]]; then
    echo "the agent is $name now, and stays"
    return 0
  fi
  systemctl disable --quiet --now k3s-agent.service 2>/dev/null
  end_pods || return 1
  while read -r mounted; do umount -l "$mounted"; done < <(below | sort -r)
  left=$(below)
  if [[ -n $left ]]; then
    printf 'these are still mounted, and nothing below them was removed:\n%s\n' "$left" >&2
    return 1
  fi
  leave_network || return 1
  rm -rf --one-file-system /var/lib/kubelet /run/k3s /run/flannel
  if [[ -d $home ]]; then find "$home" -mindepth 1 -maxdepth 1 ! -name storage -exec rm -rf --one-file-system {} +; fi
  rmdir "$home/storage" "$home" 2>/dev/null
  if [[ -d $home/storage ]]; then echo "volumes of pods were left in $home/storage"; fi
  rm -f /etc/systemd/system/k3s-agent.service /etc/rancher/k3s/config.yaml /etc/rancher/k3s/gpuctl-token /usr/local/bin/k3s "$made"
  # The password that the cluster knew this node by.
  rm -rf /etc/rancher/node
  rmdir /etc/rancher/k3s /etc/rancher 2>/dev/null
  systemctl daemon-reload
}

# Containers outlive the agent. All that runs in one descends from its shim while that lives, also what lost its parent: so the shims go
# last. A process that was about to fork is met in the next round.
end_pods() {
  local round pids shims
  for ((round = 0; round < 150; round++)); do
    read -ra pids < <(of_pods below)
    read -ra shims < <(of_pods shims)
    if [[ ${#pids[@]} -gt 0 ]]; then
      kill -9 "${pids[@]}" 2>/dev/null
    elif [[ ${#shims[@]} -gt 0 ]]; then
      kill -9 "${shims[@]}" 2>/dev/null
    else
      return 0
    fi
    sleep 0.2
  done
  echo "these processes of pods do not end, and nothing was removed: ${pids[*]} ${shims[*]}; ps -o pid,stat,args; restart the host" >&2
  return 1
}

of_pods() { # of_pods shims|below: pids of k3s's shims, told by their path, or of all below them that still run; in one line
  ps -e -o pid= -o ppid= -o stat= -o args= | awk -v wanted="$1" '
    { parent[$1] = $2; gone[$1] = $3 ~ /^Z/ }
    $4 ~ "^/var/lib/rancher/k3s/data/[0-9a-f]+/bin/containerd-shim" { shim[$1] = 1 }
    END {
      for (pid in parent) {
        if (gone[pid]) continue
        if (pid in shim) { if (wanted == "shims") printf "%s ", pid; continue }
        for (up = parent[pid]; (up in parent) && !(up in shim); up = parent[up]);
        if (wanted == "below" && (up in shim)) printf "%s ", pid
      }
      print ""
    }'
}

# Interfaces, network namespaces and rules of pods. Namespaces that something runs in are not theirs: all of theirs has ended.
leave_network() {
  local name family rules kept
  for name in $(ip -o link show master cni0 2>/dev/null | awk -F'[ :@]+' '{ print $2 }') cni0 flannel.1 flannel-v6.1 flannel-wg flannel-wg-v6 kube-ipvs0; do
    ip link delete "$name" 2>/dev/null
  done
  for name in $(ip netns list 2>/dev/null | awk '$1 ~ /^cni-/ { print $1 }'); do
    [[ -n $(ip netns pids "$name" 2>/dev/null) ]] || ip netns delete "$name"
  done
  rm -rf /var/lib/cni/networks/cbr0 /var/lib/cni/flannel /var/lib/cni/results/cbr0-* /var/lib/cni/cache/results/cbr0-*
  rmdir /var/lib/cni/networks /var/lib/cni/results /var/lib/cni/cache/results /var/lib/cni/cache /var/lib/cni 2>/dev/null
  for family in iptables ip6tables; do
    rules=$("$family-save" 2>/dev/null) || continue
    kept=$(grep -vE 'KUBE-|CNI-' <<<"$rules" | grep -vi flannel)
    [[ $kept != "$rules" ]] || continue
    "$family-restore" <<<"$kept" || {
      echo "the rules of pods could not be taken out of the firewall: $family-save | grep -E 'KUBE-|CNI-|FLANNEL'" >&2
      return 1
    }
  done
}

below() { awk '$2 ~ "^/(run/k3s|var/lib/rancher/k3s|var/lib/kubelet)" { print $2 }' /proc/self/mounts; }
