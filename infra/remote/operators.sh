# shellcheck shell=bash
# Who may log in as root: the keys of GPUCTL_OPERATORS, one a line, in a block of their own. The first time the block is the whole file:
# what is in it came with the creation of this server, by user data that may be older than the last change of the list. A copy of it stays beside the file, which sshd never reads.

main() {
  local directory=$HOME/.ssh file=$HOME/.ssh/authorized_keys begin='# gpuctl operators begin' end='# gpuctl operators end' text='' first='' fresh session
  if grep -qxF "$begin" "$file" 2>/dev/null; then text=$(sed "/^$begin\$/,/^$end\$/d" "$file"); else first=yes; fi
  text+=${text:+$'\n'}$begin$'\n'$GPUCTL_OPERATORS$'\n'$end
  if [[ $(cat "$file" 2>/dev/null) == "$text" ]]; then
    echo 'unchanged'
    return 0
  fi
  fresh=$(install -d -m 0700 "$directory" && mktemp "$file.XXXXXX") || return 1
  session=$(key_of_session)
  if ! printf '%s\n' "$text" >"$fresh"; then
    rm -f "$fresh"
    return 1
  fi
  if [[ -n $session ]] && ! ssh-keygen -lf "$fresh" | awk '{ print $2 }' | grep -qxF "$session"; then
    rm -f "$fresh"
    echo "the key that you log in with ($session) is not in operators.keys, and nobody could take the list back: log in with one that is, or put it in; ssh-add -l" >&2
    return 1
  fi
  if [[ -n $first && -s $file ]]; then install -m 0600 "$file" "$file.before-gpuctl" || return 1; fi
  mv "$fresh" "$file" && echo "$(grep -c . <<<"$GPUCTL_OPERATORS") keys"
}

# Fingerprint of the key that this connection was opened with, as sshd wrote it down; nothing where that cannot be told.
key_of_session() {
  local client port rest
  read -r client port rest <<<"${SSH_CONNECTION:-}"
  [[ -n $port ]] || return 0
  journalctl -q --no-pager -o cat --since=-1hour -t sshd -t sshd-session 2>/dev/null |
    sed -nE "s/^Accepted publickey for .* from $client port $port ssh2: (ED25519|ECDSA|RSA)(-SK)? (SHA256:[A-Za-z0-9+/]+).*/\3/p" | tail -n 1
}
