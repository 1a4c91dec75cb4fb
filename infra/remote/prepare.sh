# shellcheck shell=bash
# Runs the preparation script that was just delivered, and ends when the host is prepared or restarts. GPUCTL_RESTART: never, allow (not
# under releases that serve) or always.

main() {
  local directory=/var/lib/gpuctl/host status
  # What the provider's own first boot does comes first; its failures are its own, ours are found below. Where it has not run since
  # the start of the host, it would be waited for in vain.
  if command -v cloud-init >/dev/null && [[ -d /run/cloud-init ]]; then timeout 900 cloud-init status --wait >/dev/null 2>&1; fi
  bash "$directory/prepare-host.sh" "$directory/given-values" >&2
  status=$?
  case $status in
    0) echo 'prepared' ;;
    4)
      if [[ $GPUCTL_RESTART == never ]]; then
        echo 'the host has to be restarted, and this stack does not allow it. Next: restart it, then pulumi up; or reboot: allow' >&2
        return 1
      fi
      [[ $GPUCTL_RESTART == always ]] || idle || return 1
      restart
      ;;
    *)
      echo "the host is not prepared ($status); the last lines of its log:" >&2
      tail -n 20 /var/log/gpuctl/prepare.jsonl >&2
      return 1
      ;;
  esac
}

# Releases would be away for as long as the host is.
idle() {
  local names
  names=$(timeout 20 docker ps --filter label=dev.gpuctl.instance --format '{{.Names}}' 2>/dev/null) || names='(Docker does not say which)'
  [[ -n $names ]] || return 0
  echo "the host has to be restarted, and releases serve on it: ${names//$'\n'/, }. Next: restart it when they may be away, then pulumi up; or reboot: always" >&2
  return 1
}

# No new connection is taken from here on, so that the next one can only be made after the restart; this one goes on.
restart() {
  systemd-run --quiet --on-active=300 --unit=gpuctl-ssh-again systemctl start ssh.socket ssh.service >&2
  systemctl stop ssh.socket ssh.service sshd.socket sshd.service >&2 2>/dev/null
  systemd-run --quiet --on-active=3 --unit=gpuctl-restart systemctl reboot >&2 || return 1
  echo 'restarting'
}
