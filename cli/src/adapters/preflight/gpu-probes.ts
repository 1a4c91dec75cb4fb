import { queryArguments } from "../../domain/nvidia-smi.js";
import { root, user } from "./probe.js";

/** GPU, driver, container toolkit, and what could change them. What may hang for ever comes last. */
export const gpuProbes = {
  module: user(5, "cat /proc/driver/nvidia/version"),
  "module-disk": user(5, "modinfo -F version nvidia"),
  modules: user(5, "awk '{ print $1 }' /proc/modules | grep -E '^(nvidia|nvidia_uvm|nouveau)$'; :"),
  library: user(
    10,
    `for file in $(ldconfig -p 2>/dev/null | awk '/libnvidia-ml[.]so[.]1/ { print $NF }') /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1 \\
  /usr/lib/aarch64-linux-gnu/libnvidia-ml.so.1 /usr/lib64/libnvidia-ml.so.1 /usr/lib/wsl/lib/libnvidia-ml.so.1; do
  [ -e "$file" ] && readlink -f "$file"
done | sort -u`,
  ),
  pci: user(
    5,
    `[ -d /sys/bus/pci/devices ] || { echo 'there is no PCI bus' >&2; exit 1; }
count=0
for device in /sys/bus/pci/devices/*; do
  [ -r "$device/vendor" ] && read -r vendor <"$device/vendor" && read -r class <"$device/class" || continue
  case $vendor$class in 0x10de0x03*) count=$((count + 1)) ;; esac
done
echo "$count"`,
  ),
  toolkit: user(5, "nvidia-ctk --version"),
  // A specification names the driver it was made for, in its hooks or in its libraries, and the program that its hooks start.
  "cdi-files": root(
    10,
    `for file in /etc/cdi/*.yaml /etc/cdi/*.json /var/run/cdi/*.yaml /var/run/cdi/*.json; do
  [ -f "$file" ] || continue
  printf 'file %s %s\\n' "$(date -r "$file" +%s)" "$file"
  grep -oE '"?kind"?: *"?[A-Za-z0-9./-]+|"?name"?: *"?[A-Za-z0-9_.:-]+|host-driver-version=[0-9.]+|lib(cuda|nvidia-ml)[.]so[.][0-9]+[.][0-9.]+' "$file" |
    sort -u | sed 's/^/  /'
  for hook in $(grep -oE '/[^" ]*/nvidia-(ctk|cdi-hook)' "$file" | sort -u); do
    if [ -x "$hook" ]; then echo "  hook $hook"; else echo "  no-hook $hook"; fi
  done
done
:`,
  ),
  packages: user(
    15,
    `dpkg-query -W -f '\${db:Status-Abbrev}|\${Package}|\${Version}\\n' >/dev/null || exit
dpkg-query -W -f '\${db:Status-Abbrev}|\${Package}|\${Version}\\n' |
  grep -E '^.i.?.?[|]((lib)?nvidia-|linux-(modules|objects|signatures)-nvidia-|unattended-upgrades[|])'; :`,
  ),
  holds: user(10, "apt-mark showhold"),
  unattended: user(10, "apt-config dump | grep -E '^(Unattended-Upgrade::|APT::Periodic::Unattended-Upgrade )'; :"),
  "secure-boot": user(
    5,
    `[ -d /sys/firmware/efi ] || { echo 'no EFI'; exit; }
mokutil --sb-state 2>/dev/null && exit
for file in /sys/firmware/efi/efivars/SecureBoot-*; do od -An -tu1 "$file"; done`,
  ),
  "kernel-log": root(
    15,
    `log=$(dmesg 2>&1) || log=$(journalctl -k -b -q --no-pager 2>&1) || { printf '%s\\n' "$log" | tail -n 1 >&2; exit 1; }
printf '%s\\n' "$log" | grep -E 'NVRM: Xid|NVRM: API mismatch|Key was rejected|nvidia: .*verification failed' | tail -n 60; :`,
  ),
  "reboot-required": user(5, "[ -e /var/run/reboot-required ] || exit 1; cat /var/run/reboot-required.pkgs 2>/dev/null; :"),
  "smi-query": user(10, `nvidia-smi ${queryArguments.join(" ")}`),
  "smi-list": user(5, "nvidia-smi -L"),
  "smi-apps": user(5, "nvidia-smi --query-compute-apps=gpu_uuid,pid,used_memory,process_name --format=csv,noheader,nounits"),
  "gpu-owners": root(
    5,
    `for pid in $(nvidia-smi --query-compute-apps=pid --format=csv,noheader | tr -dc '0-9\\n' | sort -u); do
  echo "pid $pid $(cat "/proc/$pid/comm" 2>/dev/null)"
  sed 's/^/  /' "/proc/$pid/cgroup" 2>/dev/null
done
:`,
  ),
};
