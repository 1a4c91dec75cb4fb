# shellcheck shell=bash
# Ends the program before any file is written when k3s was installed here by somebody else. What comes after is ours to take away again.

main() {
  local made=/var/lib/gpuctl/host/k3s-agent path
  [[ ! -e $made ]] || return 0
  for path in /usr/local/bin/k3s /etc/rancher/k3s/config.yaml /etc/systemd/system/k3s.service /etc/systemd/system/k3s-agent.service; do
    [[ -e $path ]] || continue
    echo "k3s was installed here by somebody else ($path): remove it first, as with k3s-agent-uninstall.sh" >&2
    return 1
  done
  mkdir -p /var/lib/gpuctl/host && : >"$made"
}
