# shellcheck shell=bash
# Looks at a box that somebody else installed, and changes nothing. All reasons at once, one a line, on stderr; facts on stdout.
# GPUCTL_GPUS: how many cards are expected (0: none); GPUCTL_PORTS: ports of the services, with blanks.

main() {
  local reasons=() found port free
  [[ $(id -u) == 0 ]] || reasons+=("this is not root: log in as root, or give the user passwordless sudo")
  found=$(lspci -n -d 10de: 2>/dev/null | grep -cE '^[0-9a-f:.]+ "?03[0-9a-f]{2}"?:')
  if command -v lspci >/dev/null; then
    ((found >= GPUCTL_GPUS)) || reasons+=("$found NVIDIA GPUs are on the PCI bus, and $GPUCTL_GPUS are expected: lspci -nn -d 10de:")
  fi
  free=$(df -Pm /var | awk 'NR == 2 { print $4 }')
  ((free >= 20480)) || reasons+=("$free MiB are free below /var: images and models need 20 GiB at least")
  [[ $(timedatectl show -p NTPSynchronized --value 2>/dev/null) != no ]] ||
    reasons+=("its clock is not synchronised: timedatectl set-ntp true")
  for port in $GPUCTL_PORTS; do
    if [[ ! -e /var/lib/gpuctl/host/result.json && -n $(ss -Hltn "sport = :$port" 2>/dev/null) ]]; then
      reasons+=("port $port is taken: ss -ltnp 'sport = :$port'")
    fi
  done
  if [[ ${#reasons[@]} -gt 0 ]]; then
    printf '%s\n' "${reasons[@]}" >&2
    return 1
  fi
  # shellcheck source=/dev/null
  printf '%s, kernel %s, %s NVIDIA GPUs, %s MiB free\n' "$(. /etc/os-release && printf %s "$PRETTY_NAME")" "$(uname -r)" "$found" "$free"
}
