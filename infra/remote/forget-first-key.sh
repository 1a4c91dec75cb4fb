# shellcheck shell=bash
# Replaces the key that was in the user data, which every process of the host can read. GPUCTL_FIRST_KEY is its public half: any other
# key stays, also when this runs again.

main() {
  local key=/etc/ssh/ssh_host_ecdsa_key
  if [[ $(cut -d' ' -f1,2 "$key.pub" 2>/dev/null) == "$GPUCTL_FIRST_KEY" ]]; then
    rm -f "$key" "$key.pub" || return 1
    ssh-keygen -q -t ecdsa -N '' -C '' -f "$key" || return 1
    systemctl reload ssh.service >&2 || systemctl reload sshd.service >&2 || return 1
  fi
  echo 'the one-time key is gone'
}
