# shellcheck shell=bash
# First connection to a new cloud server, identified by the key of its user data. The host makes its lasting key itself; the one-time
# key stays until a connection was made with the lasting one, so that a run that ends in between can be repeated.

main() {
  local key=/etc/ssh/ssh_host_ed25519_key
  if [[ ! -s $key ]]; then
    ssh-keygen -q -t ed25519 -N '' -C '' -f "$key" || return 1
    systemctl reload ssh.service >&2 || systemctl reload sshd.service >&2 || return 1
  fi
  cut -d' ' -f1,2 "$key.pub"
}
