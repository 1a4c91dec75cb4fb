# shellcheck shell=bash
# Looks at a box that somebody else installed, and changes nothing. All reasons at once, one a line, on stderr; facts on stdout.
# GPUCTL_GPUS: how many cards are expected (0: none); GPUCTL_PORTS: ports of the services, with blanks.

main() {
  local reasons=() found port free system
  [[ $(id -u) == 0 ]] || reasons+=("this is not root: log in as root, or give the user passwordless sudo")
  system=$(os_release PRETTY_NAME)
  supported || reasons+=("${system:-this system} is not supported: Ubuntu 22.04, 24.04 and 26.04 and Debian 12 and 13 are, on amd64 and arm64")
  [[ -d /run/systemd/system ]] || reasons+=("it was not started by systemd, which keeps Docker and the driver running")
  found=$(gpus)
  ((found >= GPUCTL_GPUS)) || reasons+=("$found NVIDIA GPUs are on the PCI bus, and $GPUCTL_GPUS are expected: lspci -nn -d 10de:")
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
  # No reason to stop: who may guess is named in operators.addresses, or is the person's own decision.
  [[ $(sshd -T 2>/dev/null) != *'passwordauthentication yes'* ]] ||
    echo 'warning: its sshd takes passwords, which can be guessed: PasswordAuthentication no, once keys work' >&2
  printf '%s, kernel %s, %s NVIDIA GPUs, %s MiB free\n' "$system" "$(uname -r)" "$found" "$free"
}

os_release() { sed -n "s/^$1=//p" /etc/os-release 2>/dev/null | tr -d "\"'" | head -1; }

# What the preparation knows; it looks again itself, which is after the VLAN of a vSwitch was made.
supported() {
  [[ $(dpkg --print-architecture 2>/dev/null) =~ ^(amd64|arm64)$ ]] || return 1
  [[ "$(os_release ID) $(os_release VERSION_ID)" =~ ^(ubuntu (22|24|26)\.04|debian 1[23])$ ]]
}

# Minimal systems have no lspci.
gpus() {
  local device count=0
  if command -v lspci >/dev/null; then
    lspci -n -d 10de: 2>/dev/null | grep -cE '^[0-9a-f:.]+ "?03[0-9a-f]{2}"?:'
    return
  fi
  for device in /sys/bus/pci/devices/*; do
    [[ $(cat "$device/vendor" "$device/class" 2>/dev/null) != 0x10de$'\n'0x03* ]] || count=$((count + 1))
  done
  echo "$count"
}
