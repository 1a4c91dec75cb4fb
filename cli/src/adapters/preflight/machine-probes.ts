import { root, user } from "./probe.js";

/** The machine itself: who we are on it, system, memory, disk, network. The clock comes first, so that it is as fresh as can be. */
export const machineProbes = {
  clock: user(5, "date +%s.%N"),
  identity: user(5, "id -u; id -un; id -Gn; :"),
  "os-release": user(5, "cat /etc/os-release 2>/dev/null || cat /usr/lib/os-release"),
  kernel: user(5, "uname -s; uname -r; uname -m; cat /proc/version"),
  memory: user(5, "cat /proc/meminfo"),
  synchronised: user(5, "timedatectl show -p NTPSynchronized"),
  // The folder itself may have to be made: the nearest one above it decides.
  "data-disk": root(
    10,
    `place=$1
while [ ! -e "$place" ] && [ "$place" != / ] && [ "$place" != . ]; do place=$(dirname "$place"); done
if [ -d "$place" ]; then echo folder; else echo file; fi
if [ -w "$place" ] && [ -x "$place" ]; then echo writable; else echo closed; fi
df -Pk "$place" | tail -n 1
df -Pi "$place" | tail -n 1
printf '%s\\n' "$place"`,
  ),
  tools: user(5, 'for tool in tar gzip zstd sha256sum systemctl systemd-run curl; do echo "$tool $(command -v "$tool")"; done'),
  listeners: root(10, "ss -Hltnp"),
  "listeners-proc": user(
    10,
    `for table in /proc/net/tcp /proc/net/tcp6; do
  [ -r "$table" ] && awk 'FNR > 1 && $4 == "0A" { print $2 }' "$table"
done
:`,
  ),
  addresses: user(5, "ip -o addr show || hostname -I"),
  ufw: root(10, "ufw status verbose"),
  firewalld: root(10, "firewall-cmd --state"),
};
