#!/usr/bin/env bash
# Prepares one host for gpuctl: Docker, NVIDIA's driver and container toolkit, the firewall of the service ports, a user to deploy as.
#
#   prepare-host.sh FILE | -             prepares with the values of a file or of stdin
#   prepare-host.sh --upgrade FILE | -   the same, and moves driver, modules and kernel as one set
#   prepare-host.sh --check              says how the host is now, changing nothing: one JSON document
#   prepare-host.sh --remove             takes away what this script made; Docker, driver and toolkit stay
#   prepare-host.sh --resume | --firewall | --reboot   for the units that this script installs
#
# Values are lines KEY=value, without quotes; they hold no secrets:
#   GPUCTL_GPU=auto|require|none   GPUCTL_DEPLOY_USER   GPUCTL_AUTHORIZED_KEY (repeatable)   GPUCTL_SERVICE_PORTS=8001,8002
#   GPUCTL_APP_ADDRESSES=cidr,cidr|nobody   GPUCTL_SSH_ADDRESSES=cidr,cidr   GPUCTL_REBOOT=yes|no   GPUCTL_REVISION   GPUCTL_LOCK_SECONDS
#   GPUCTL_DOCKER_REPOSITORY, GPUCTL_TOOLKIT_REPOSITORY, GPUCTL_DRIVER_REPOSITORY: https:// or file:// bases of mirrors
# What is not named stays as an earlier run was told; KEY= without a value takes it back.
#   GPUCTL_VALUES=n: how many other lines there are, so that a list that was cut off is refused
#
# A second run changes nothing, a run after an interruption goes on.
# Prints JSON lines {time, step, event, result, detail}, kept in /var/log/gpuctl/prepare.jsonl; what apt said is beside it.
# Exit: 0 prepared, 1 failed, 2 values wrong, 3 refused and nothing changed, 4 a restart is needed or on its way.
set -uo pipefail
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
umask 022
# The connection may be lost: the work goes on.
trap '' HUP PIPE

readonly state=/var/lib/gpuctl/host paused=/run/gpuctl-paused logs=/var/log/gpuctl units=/etc/systemd/system
readonly branch=580 toolkit_version=1.20.0-1 least_driver=580 least_docker=25
readonly toolkit_packages=(nvidia-container-toolkit nvidia-container-toolkit-base libnvidia-container-tools libnvidia-container1)
readonly docker_packages=(docker-ce docker-ce-cli containerd.io docker-buildx-plugin docker-compose-plugin)
# MiB for Docker, and for a driver with its modules.
readonly room_docker=2048 room_driver=4096

mode=prepare step=start outcome=unchanged detail='' lists_fresh=no reboot_because='' rebooted=no
declare -A named=() value=([GPUCTL_GPU]=auto [GPUCTL_DEPLOY_USER]='' [GPUCTL_SERVICE_PORTS]='' [GPUCTL_APP_ADDRESSES]='' [GPUCTL_SSH_ADDRESSES]=''
  [GPUCTL_REBOOT]=no [GPUCTL_REVISION]='' [GPUCTL_LOCK_SECONDS]=600 [GPUCTL_VALUES]=''
  [GPUCTL_DOCKER_REPOSITORY]=https://download.docker.com/linux [GPUCTL_TOOLKIT_REPOSITORY]=https://nvidia.github.io/libnvidia-container
  [GPUCTL_DRIVER_REPOSITORY]=https://developer.download.nvidia.com/compute/cuda/repos)
authorized_keys=() driver_packages=() apt_options=() gpus=0 driver=none self='' distribution='' codename='' version_id='' apt_said='' lists_said=''

# ---------------------------------------------------------------- saying what happens

json() { # json TEXT: as a JSON string
  local text=${1//\\/\\\\}
  text=${text//\"/\\\"} text=${text//$'\n'/\\n} text=${text//$'\t'/ }
  printf '"%s"' "${text//[[:cntrl:]]/ }"
}

now() { TZ=UTC0 printf '%(%Y-%m-%dT%H:%M:%SZ)T' -1; }

log() { # log EVENT RESULT DETAIL
  local line
  line="{\"time\":\"$(now)\",\"step\":$(json "$step"),\"event\":\"$1\""
  [[ -z $2 ]] || line+=",\"result\":\"$2\""
  [[ -z $3 ]] || line+=",\"detail\":$(json "$3")"
  printf '%s}\n' "$line" 2>/dev/null || :
  [[ $mode == check ]] || printf '%s}\n' "$line" 2>/dev/null >>"$logs/prepare.jsonl" || :
}

run_step() { # run_step NAME FUNCTION
  step=$1 outcome=unchanged detail=''
  log start '' ''
  "$2"
  log end "$outcome" "$detail"
}

waiting() { log start '' "$1"; }

# What is known of the host, as JSON without braces.
facts_json() {
  local gpu_list='' uuid name memory toolkit='' docker_version=''
  while IFS=, read -r uuid name memory; do
    [[ $uuid == GPU-* ]] || continue
    memory=${memory// /}
    [[ $memory =~ ^[0-9]+$ ]] || memory=null
    gpu_list+="${gpu_list:+,}{\"uuid\":$(json "$uuid"),\"name\":$(json "${name# }"),\"memory\":$memory}"
  done < <(timeout 30 nvidia-smi --query-gpu=uuid,name,memory.total --format=csv,noheader,nounits 2>/dev/null)
  docker_version=$(docker_engine)
  toolkit=$(package_version nvidia-container-toolkit)
  printf '"gpus":[%s],"driver":%s,"docker":%s,"toolkit":%s,"kernel":%s' "$gpu_list" "$(or_null "$(loaded_driver)")" \
    "$(or_null "$docker_version")" "$(or_null "$toolkit")" "$(json "$(uname -r)")"
}

or_null() { if [[ -z $1 ]]; then printf null; else json "$1"; fi; }

result_json() { # result_json STATE REASON NEXT
  printf '{"schemaVersion":1,"script":"%s","revision":%s,"state":"%s","step":%s,"reason":%s,"nextStep":%s,%s,"at":"%s"}\n' \
    "$(sha256sum <"$self" | cut -d' ' -f1)" "$(json "${value[GPUCTL_REVISION]}")" "$1" "$(json "$step")" "$(or_null "$2")" \
    "$(or_null "$3")" "$(facts_json)" "$(now)"
}

# On a full disk the older result stays.
write_result() {
  local text
  text=$(result_json "$@")
  mkdir -p "$state" 2>/dev/null
  { printf '%s\n' "$text" >"$state/result.json.new" && mv "$state/result.json.new" "$state/result.json"; } 2>/dev/null ||
    log start '' "the result cannot be written to $state: is the disk full?"
}

finish() { # finish EXIT STATE REASON NEXT
  local code=$1 result='done'
  shift
  case $1 in failed | refused) result=failed ;; esac
  [[ $mode == firewall || $mode == remove ]] || write_result "$@"
  [[ $1 == prepared ]] || log end "$result" "${2:-$1}${3:+; next: $3}"
  exit "$code"
}

fail() { finish 1 failed "$1" "${2:-}"; }
refuse() { finish 3 refused "$1" "${2:-}"; }

values_wrong() {
  step=values
  log end failed "$1"
  exit 2
}

# ---------------------------------------------------------------- values

read_values() { # read_values FILE
  local line key count=0
  while IFS= read -r line || [[ -n $line ]]; do
    [[ -z $line || $line == '#'* ]] && continue
    key=${line%%=*}
    [[ $line == *=* && $line != *$'\r'* ]] || values_wrong "not a line KEY=value: ${line:0:60}"
    [[ $key == GPUCTL_VALUES ]] || count=$((count + 1))
    if [[ $key == GPUCTL_AUTHORIZED_KEY ]]; then
      authorized_keys+=("${line#*=}")
    elif [[ $key =~ ^[A-Z_]+$ && -v value[$key] ]]; then
      named[$key]=yes
      [[ $key == *_REPOSITORY && -z ${line#*=} ]] || value[$key]=${line#*=}
    else
      values_wrong "unknown value ${key:0:60}"
    fi
  done <"$1"
  [[ -z ${value[GPUCTL_VALUES]} || ${value[GPUCTL_VALUES]} == "$count" ]] ||
    values_wrong "$count of ${value[GPUCTL_VALUES]} values arrived"
  if [[ $mode == prepare || $mode == upgrade ]]; then keep_values; fi
  check_values
}

# Rules of the firewall go only when their addresses are named as none. Consent to a restart and patience are for one run.
keep_values() {
  local line key keys=()
  [[ -f $state/values ]] || return 0
  while IFS= read -r line; do
    key=${line%%=*}
    case $key in
      GPUCTL_REBOOT | GPUCTL_LOCK_SECONDS | GPUCTL_VALUES) ;;
      GPUCTL_AUTHORIZED_KEY) keys+=("${line#*=}") ;;
      *) if [[ $key =~ ^[A-Z_]+$ && -v value[$key] && ! -v named[$key] ]]; then value[$key]=${line#*=}; fi ;;
    esac
  done <"$state/values"
  # Keys belong to their account: those of another are not kept.
  if [[ ${#authorized_keys[@]} -eq 0 ]] && grep -qxF "GPUCTL_DEPLOY_USER=${value[GPUCTL_DEPLOY_USER]}" "$state/values"; then authorized_keys=("${keys[@]}"); fi
}

check_values() {
  local key port list
  [[ ${value[GPUCTL_GPU]} =~ ^(auto|require|none)$ ]] || values_wrong 'GPUCTL_GPU is auto, require or none'
  [[ ${value[GPUCTL_REBOOT]} =~ ^(yes|no)$ ]] || values_wrong 'GPUCTL_REBOOT is yes or no'
  [[ ${value[GPUCTL_LOCK_SECONDS]} =~ ^[0-9]{1,5}$ ]] || values_wrong 'GPUCTL_LOCK_SECONDS is a number of seconds'
  [[ ${value[GPUCTL_DEPLOY_USER]} =~ ^([a-z_][a-z0-9_-]{0,31})?$ ]] || values_wrong 'GPUCTL_DEPLOY_USER is no user name'
  for key in "${authorized_keys[@]}"; do
    [[ $key =~ ^(ssh-|ecdsa-sha2-|sk-)[A-Za-z0-9@.-]+\ [A-Za-z0-9+/]+=*(\ .*)?$ ]] || values_wrong "no public key: ${key:0:40}"
  done
  [[ ${#authorized_keys[@]} -eq 0 || -n ${value[GPUCTL_DEPLOY_USER]} ]] || values_wrong 'GPUCTL_AUTHORIZED_KEY needs GPUCTL_DEPLOY_USER'
  [[ ${value[GPUCTL_SERVICE_PORTS]} =~ ^([0-9]{1,5}(,[0-9]{1,5})*)?$ ]] || values_wrong 'GPUCTL_SERVICE_PORTS is a list such as 8001,8002'
  for port in ${value[GPUCTL_SERVICE_PORTS]//,/ }; do
    ((10#$port >= 1 && 10#$port <= 65535)) || values_wrong "$port is no port"
  done
  for key in GPUCTL_DOCKER_REPOSITORY GPUCTL_TOOLKIT_REPOSITORY GPUCTL_DRIVER_REPOSITORY; do
    # The keys that packages are checked with come from there too.
    [[ ${value[$key]} =~ ^(https|file)://[^[:space:]]+[^/]$ ]] || values_wrong "$key is no https:// or file:// address"
  done
  for key in GPUCTL_APP_ADDRESSES GPUCTL_SSH_ADDRESSES; do
    [[ -z ${value[$key]} || $key=${value[$key]} == GPUCTL_APP_ADDRESSES=nobody ]] && continue
    list=$(networks "${value[$key]}") || values_wrong "$key: $list"
    value[$key]=$list
  done
}

# Networks in the form that iptables and ufw print, with commas; or what is wrong with them.
networks() {
  python3 -I - "$1" <<'PYTHON'
import ipaddress, sys
try:
    print(",".join(str(ipaddress.ip_network(text.strip(), strict=False)) for text in sys.argv[1].split(",")))
except ValueError as error:
    sys.exit(print(error) or 1)
PYTHON
}

# ---------------------------------------------------------------- what the host has

installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }
package_version() { if installed "$1"; then dpkg-query -W -f '${Version}' "$1"; fi; }
# Half installed counts: whose driver it is shows there already.
installed_like() { # installed_like REGEX
  dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2>/dev/null | sed -nE 's/^(installed|half-.*|unpacked|triggers-.*) //p' | grep -E "$1" | sort -u
}
has_candidate() {
  local found
  found=$(apt-cache policy "$1" 2>/dev/null | awk '$1 == "Candidate:" { print $2 }')
  [[ -n $found && $found != '(none)' ]]
}
docker_engine() { timeout 20 docker version --format '{{.Server.Version}}' 2>/dev/null; }
loaded_driver() { grep -m1 -oE '[0-9]{3}\.[0-9.]+[0-9]' /proc/driver/nvidia/version 2>/dev/null || cat /sys/module/nvidia/version 2>/dev/null; }
disk_driver() { modinfo -F version nvidia 2>/dev/null; }
boot_id() { cat /proc/sys/kernel/random/boot_id; }

count_gpus() {
  local device vendor class
  if command -v lspci >/dev/null; then
    gpus=$(lspci -n -d 10de: 2>/dev/null | grep -cE '^[0-9a-f:.]+ "?03[0-9a-f]{2}"?:')
    return
  fi
  gpus=0
  for device in /sys/bus/pci/devices/*; do
    vendor=$(cat "$device/vendor" 2>/dev/null) class=$(cat "$device/class" 2>/dev/null)
    if [[ $vendor$class == 0x10de0x03* ]]; then gpus=$((gpus + 1)); fi
  done
}

secure_boot() {
  local file
  [[ -d /sys/firmware/efi ]] || command -v mokutil >/dev/null || return 1
  if command -v mokutil >/dev/null; then
    [[ $(mokutil --sb-state 2>/dev/null) == *'SecureBoot enabled'* ]]
    return
  fi
  for file in /sys/firmware/efi/efivars/SecureBoot-*; do
    [[ $(od -An -tu1 "$file" 2>/dev/null) == *' 1' ]] && return 0
  done
  return 1
}

wants_gpu() { [[ ${value[GPUCTL_GPU]} != none && $gpus -gt 0 ]]; }

# Where this run was asked for, when a login shell is among its ancestors; sudo hides it from us, not from /proc.
ssh_peer() {
  local pid=$$ found
  while [[ -n $pid && $pid -gt 1 ]]; do
    found=$(tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | sed -n 's/^SSH_CONNECTION=\([^ ]*\).*/\1/p')
    if [[ -n $found ]]; then
      printf '%s' "$found"
      return
    fi
    pid=$(awk '$1 == "PPid:" { print $2 }' "/proc/$pid/status" 2>/dev/null)
  done
}

os_release() { sed -n "s/^$1=//p" /etc/os-release 2>/dev/null | tr -d "\"'" | head -1; }

read_system() {
  distribution=$(os_release ID) codename=$(os_release VERSION_CODENAME) version_id=$(os_release VERSION_ID)
}

# ---------------------------------------------------------------- checks: nothing is changed here

check_host() {
  local os version
  read_system
  os=$(os_release PRETTY_NAME)
  case "$distribution $version_id" in
    'ubuntu 22.04' | 'ubuntu 24.04' | 'ubuntu 26.04' | 'debian 12' | 'debian 13') ;;
    *) refuse "${os:-this system} is not supported: Ubuntu 22.04, 24.04 and 26.04 and Debian 12 and 13 are" 'install one of them' ;;
  esac
  version=$(dpkg --print-architecture)
  [[ $version =~ ^(amd64|arm64)$ ]] || refuse "$os on $version is not supported: amd64 and arm64 are" 'use another host'
  [[ -d /run/systemd/system ]] || refuse 'this host was not started by systemd, which keeps Docker and the driver running' 'use a host with systemd'
  count_gpus
  if [[ ${value[GPUCTL_GPU]} == require && $gpus -eq 0 ]]; then
    refuse 'there is no NVIDIA GPU on the PCI bus, and one is required' 'lspci -nn | grep -i nvidia; or prepare it with GPUCTL_GPU=auto'
  fi
  detail="$os, $gpus NVIDIA $([[ $gpus == 1 ]] && echo GPU || echo GPUs) on the PCI bus"
}

check_room() {
  local need=$room_docker free
  if wants_gpu && [[ $driver != keep && $driver != present ]]; then need=$((need + room_driver)); fi
  if all_installed "${docker_packages[@]}" && { ! wants_gpu || all_installed "${toolkit_packages[@]}"; }; then need=64; fi
  free=$(df -Pm /var | awk 'NR == 2 { print $4 }')
  ((free >= need)) || refuse "$free MiB are free on the disk of /var, and $need MiB are needed" 'df -h /var; apt-get clean'
  detail="$free MiB free"
}

check_docker() {
  local name path found=() version
  if [[ -e /snap/bin/docker ]] || snap list docker >/dev/null 2>&1; then
    refuse 'Docker is installed as a snap, which sees neither the GPU driver nor folders such as /var/lib/gpuctl' \
      'snap remove docker, which removes its containers and volumes; then run this again'
  fi
  for name in docker.io docker-compose docker-compose-v2 docker-doc podman-docker containerd runc; do
    if installed "$name"; then found+=("$name"); fi
  done
  if [[ ${#found[@]} -gt 0 ]]; then
    refuse "packages that conflict with Docker's own are installed: ${found[*]}" "apt-get remove ${found[*]}, which keeps /var/lib/docker; then run this again"
  fi
  path=$(command -v dockerd)
  # Half installed by an interrupted run is ours too.
  if [[ -n $path && ! $(dpkg-query -W -f '${db:Status-Status}' docker-ce 2>/dev/null) =~ ^(installed|half-|unpacked|triggers-) ]]; then
    refuse "$path belongs to no package of Docker" "remove it, such as by: systemctl disable --now docker; rm $path; then run this again"
  fi
  version=$(package_version docker-ce)
  version=${version#*:}
  if [[ -n $version && ${version%%.*} -lt $least_docker ]]; then
    refuse "Docker $version is too old: GPUs by CDI need $least_docker or newer" "apt-get install --only-upgrade ${docker_packages[*]}"
  fi
  check_daemon_json
}

# Prints what is wrong with it; with `write`, a merged copy goes beside it.
daemon_json() { # daemon_json check|write
  python3 -I - "$1" /etc/docker/daemon.json <<'PYTHON'
import json, os, sys
action, path = sys.argv[1:]
try:
    with open(path, encoding="utf-8") as file:
        text = file.read()
except FileNotFoundError:
    text = ""
except UnicodeDecodeError as error:
    sys.exit(print(f"{path} is not UTF-8: {error}") or 1)
try:
    settings = json.loads(text) if text.strip() else {}
except json.JSONDecodeError as error:
    sys.exit(print(f"{path}:{error.lineno}:{error.colno}: {error.msg}") or 1)
if not isinstance(settings, dict):
    sys.exit(print(f"{path}:1:1: the outermost value is no object") or 1)
features = settings.get("features", {})
if not isinstance(features, dict):
    sys.exit(print(f'{path}: "features" is no object') or 1)
if features.get("cdi") is True:
    sys.exit(0)
if action == "write":
    settings["features"] = {**features, "cdi": True}
    with open(path + ".gpuctl-new", "w", encoding="utf-8") as file:
        json.dump(settings, file, indent=2, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    mode = os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0o644
    os.chmod(path + ".gpuctl-new", mode)
    os.replace(path + ".gpuctl-new", os.path.realpath(path))
sys.exit(9)
PYTHON
}

check_daemon_json() {
  local wrong status
  wrong=$(daemon_json check 2>&1)
  status=$?
  [[ $status -eq 0 || $status -eq 9 ]] || refuse "Docker's configuration cannot be read: $wrong" 'nano /etc/docker/daemon.json, then run this again'
}

# How the driver gets onto this host: none | keep (somebody's, new enough) | present (ours) | signed | dkms
check_driver() {
  driver=none
  if ! wants_gpu; then
    detail=$([[ $gpus -gt 0 ]] && echo 'GPUCTL_GPU=none: the GPU is left alone' || echo 'no GPU')
    return
  fi
  if [[ -n $(installed_like "^nvidia-(utils|headless-no-dkms|headless)-$branch-server|^nvidia-driver-pinning-$branch$") ]] && driver_complete && [[ -n $(disk_driver) ]]; then
    driver=present
    detail='the driver is installed'
    return
  fi
  find_foreign_driver
  if [[ $driver == keep ]]; then
    [[ $mode != upgrade || -n $(installed_like '^nvidia-(driver|utils|headless|kernel|dkms|open)') ]] ||
      refuse 'the driver came from no package, and a newer kernel alone would leave it without a module' 'upgrade it the way it was installed; or nvidia-uninstall, then run this again'
    return
  fi
  refresh_lists
  if [[ $distribution == ubuntu ]]; then plan_ubuntu_driver; else plan_debian_driver; fi
  if [[ $driver == dkms ]] && secure_boot; then
    refuse "Secure Boot is on, and the driver for kernel $(uname -r) has to be built here: its key can be enrolled at the console only" \
      'switch Secure Boot off in the firmware, or use Ubuntu with its generic kernel, whose modules are signed'
  fi
  detail="$driver: ${driver_packages[*]}"
}

driver_complete() {
  local modules user
  if [[ $distribution == ubuntu ]]; then
    modules=$(installed_like "^(linux-modules-nvidia-$branch-server-open-|nvidia-dkms-$branch-server-open$)")
    user=$(installed_like "^nvidia-utils-$branch-server$")
  else
    modules=$(installed_like '^nvidia-kernel-open-dkms$')
    user=$(installed_like '^nvidia-driver-cuda$')
  fi
  # Begun and never held: an interrupted run leaves whole packages too, and not all of them.
  if is_made driver && ! grep -q '^hold nvidia' "$state/made"; then return 1; fi
  [[ -n $modules && -n $user ]] && ! dpkg --audit | grep -q nvidia
}

# Two sources of one driver break each other: one of somebody else stays when it is new enough.
find_foreign_driver() {
  local version packages
  packages=$(installed_like '^(nvidia-(driver|utils|headless|kernel|dkms|open|compute-utils)|linux-modules-nvidia-)' | grep -vE -- "-$branch-server-open|^nvidia-(utils|compute-utils|kernel-common|firmware)-$branch-server" | tr '\n' ' ')
  version=$(loaded_driver)
  version=${version:-$(disk_driver)}
  [[ -n $packages || -n $version ]] || return
  # Half of our own set, from an interrupted run, is no foreign driver.
  [[ -n $packages || -z $(installed_like "^(nvidia|linux-modules-nvidia).*-$branch-server") ]] || return
  [[ $distribution == debian && $packages == *"nvidia-driver-pinning-$branch"* ]] && return
  if [[ -n $version && ${version%%.*} -ge $least_driver ]]; then
    driver=keep
    detail="driver $version is kept as it is"
    return
  fi
  refuse "another NVIDIA driver is installed (${version:-version unknown}), and $least_driver or newer is needed" \
    "$([[ -n $packages ]] && echo "apt-get purge $packages" || echo nvidia-uninstall); then run this again"
}

plan_ubuntu_driver() {
  local release flavour meta modules=()
  release=$(uname -r)
  flavour=${release#*-*-}
  meta=linux-modules-nvidia-$branch-server-open-$flavour
  if installed "linux-image-$flavour-hwe-$version_id" || { [[ $flavour == generic ]] && installed "linux-image-virtual-hwe-$version_id"; }; then
    meta+=-hwe-$version_id
  fi
  # The one for the kernel that runs, and the one that follows the kernel's upgrades.
  if has_candidate "linux-modules-nvidia-$branch-server-open-$release"; then modules+=("linux-modules-nvidia-$branch-server-open-$release"); fi
  # A restart that was no help shows that this kernel is not the one that it has modules for: they are built then.
  if has_candidate "$meta" && ! { [[ ${#modules[@]} -eq 0 && $rebooted == yes ]] && has_candidate "linux-headers-$release"; }; then modules+=("$meta"); fi
  if [[ ${#modules[@]} -gt 0 ]]; then
    driver=signed
    driver_packages=("${modules[@]}" "nvidia-headless-no-dkms-$branch-server-open" "nvidia-utils-$branch-server" "nvidia-compute-utils-$branch-server")
    # Modules of an old kernel may be of an older driver: then those of the newest, and a restart into it.
    if [[ ${#modules[@]} -eq 2 ]] && ! apt-get -s install "${driver_packages[@]}" >/dev/null 2>&1; then driver_packages=("${driver_packages[@]:1}"); fi
    return
  fi
  driver=dkms
  driver_packages=("linux-headers-$release" "nvidia-headless-$branch-server-open" "nvidia-utils-$branch-server" "nvidia-compute-utils-$branch-server")
  follow_headers
  has_candidate "nvidia-headless-$branch-server-open" ||
    refuse "apt knows no nvidia-headless-$branch-server-open$(lists_trouble)" 'add-apt-repository restricted; apt-get update; then run this again'
  has_candidate "linux-headers-$release" ||
    refuse "kernel $release has neither modules of the driver nor headers to build them with" 'apt-get install linux-generic; reboot; then run this again'
}

# Later kernels need their headers too.
follow_headers() {
  if has_candidate "linux-headers-$(kernel_flavour)"; then driver_packages+=("linux-headers-$(kernel_flavour)"); fi
}

# Debian's archive has no driver of this branch: NVIDIA's repository has.
plan_debian_driver() {
  local release
  release=$(uname -r)
  driver=dkms
  driver_packages=("linux-headers-$release" "nvidia-driver-pinning-$branch" nvidia-driver-cuda nvidia-kernel-open-dkms)
  follow_headers
  has_candidate "linux-headers-$release" ||
    refuse "kernel $release has no headers to build the driver's modules with$(lists_trouble)" 'apt-get install linux-image-amd64; reboot; then run this again'
}

check_held() {
  local name wanted=("${docker_packages[@]}") found=()
  if wants_gpu; then wanted+=("${toolkit_packages[@]}" "${driver_packages[@]}"); fi
  while read -r name; do
    [[ " ${wanted[*]} " == *" $name "* ]] || continue
    is_made "hold $name" && continue
    if ! installed "$name" || { [[ " ${toolkit_packages[*]} " == *" $name "* ]] && [[ $(package_version "$name") != "$toolkit_version" ]]; }; then
      found+=("$name")
    fi
  done < <(apt-mark showhold 2>/dev/null)
  [[ ${#found[@]} -eq 0 ]] || refuse "packages that have to be installed are held: ${found[*]}" "apt-mark unhold ${found[*]}, then run this again"
}

check_sources() {
  local file
  for file in /etc/apt/sources.list.d/nvidia-docker.list /etc/apt/sources.list.d/libnvidia-container.list; do
    [[ -e $file ]] && refuse "$file contradicts the repository of the container toolkit" "rm $file, then run this again"
  done
  return 0
}

check_firewall() {
  local peer port rule
  if [[ -n ${value[GPUCTL_APP_ADDRESSES]}${value[GPUCTL_SSH_ADDRESSES]} ]] && [[ $(firewall-cmd --state 2>/dev/null) == running ]]; then
    refuse 'firewalld runs, and a second firewall would contradict it' 'systemctl disable --now firewalld, or leave the addresses out'
  fi
  if firewall_wanted && command -v ufw >/dev/null && ! ufw_active && [[ -n $(ufw_foreign) ]]; then
    refuse 'ufw has rules of somebody and is switched off: nobody knows what switching it on would cut off' 'ufw show added; then ufw enable, or ufw reset'
  fi
  # It would stand before ours, or become one of ours and go with them.
  for port in $(ufw_rules | sed -n 's#^deny \(.*\)/tcp#\1#p'); do
    rule=$(ufw_foreign | grep -m1 -xE "(allow|limit|reject) ($port(/tcp)?${value[GPUCTL_SSH_ADDRESSES]:+|OpenSSH})") &&
      refuse "ufw has rules of somebody for everybody: $rule" "ufw allow from YOUR-ADDRESS to any port $port proto tcp; ufw delete $rule; then run this again"
  done
  [[ -n ${value[GPUCTL_SSH_ADDRESSES]} ]] || return 0
  peer=$(ssh_peer)
  [[ -z $peer ]] && return 0
  python3 -I - "$peer" "${value[GPUCTL_SSH_ADDRESSES]}" <<'PYTHON' ||
import ipaddress, sys
peer = ipaddress.ip_address(sys.argv[1].split("%")[0])
peer = getattr(peer, "ipv4_mapped", None) or peer
sys.exit(not any(peer in ipaddress.ip_network(each) for each in sys.argv[2].split(",")))
PYTHON
    refuse "you come from $peer, which is not among GPUCTL_SSH_ADDRESSES (${value[GPUCTL_SSH_ADDRESSES]}): you would be locked out" \
      "add $peer/$([[ $peer == *:* ]] && echo 128 || echo 32) to them"
}

# ---------------------------------------------------------------- changing things

# What this script makes is written down before it is made, so that --remove finds it after any interruption.
made() { is_made "$*" || printf '%s\n' "$*" >>"$state/made" || fail "$state/made cannot be written" 'df -h /var'; }
is_made() { grep -qxF -- "$*" "$state/made" 2>/dev/null; }

write_file() { # write_file PATH MODE TEXT
  [[ -f $1 && $(cat "$1") == "$3" && $(stat -c %a "$1") == "${2#0}" ]] && return
  made "file $1"
  mkdir -p "$(dirname "$1")"
  { printf '%s\n' "$3" >"$1.gpuctl-new" && chmod "$2" "$1.gpuctl-new" && mv "$1.gpuctl-new" "$1"; } 2>/dev/null ||
    { rm -f "$1.gpuctl-new"; fail "$1 cannot be written" 'df -h /'; }
  outcome='done'
}

# apt-get and apt-mark, waiting for whoever holds the locks: apt-get waits for dpkg's only, apt-mark for none.
apt() { # apt ARGUMENTS...
  patiently apt-get -q -y -o DPkg::Lock::Timeout=5 -o Acquire::Retries=3 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
    --no-install-recommends "$@"
}

mark() { # mark hold|unhold NAMES...
  patiently apt-mark "$@" || fail "packages cannot be set to $1: ${*:2}${apt_said:+; $apt_said}" "apt-mark $*; then run this again"
}

patiently() { # patiently COMMAND ARGUMENTS...
  local deadline=$((SECONDS + value[GPUCTL_LOCK_SECONDS])) output=$logs/apt.log said status holder='' seen pid
  pause_timers
  while :; do
    said=$("$@" 2>&1 </dev/null)
    status=$?
    printf '%s %s\n%s\n' "$(now)" "$*" "$said" >>"$output" 2>/dev/null
    # Also of what ended well: apt-get update does although a repository could not be read.
    apt_said=$(grep -E '^(E|W|Err):?|^dpkg: error' <<<"$said" | tail -3 | tr '\n' ' ')
    [[ $status -eq 0 ]] && return 0
    grep -qE 'Could not get lock|Unable to (lock|acquire)|locked by .*process' <<<"$said" || return "$status"
    pid=$(sed -nE 's/.*(held by process|process with pid) ([0-9]+).*/\2/p' <<<"$said" | head -1)
    seen="process $pid ($(cat "/proc/$pid/comm" 2>/dev/null))"
    [[ -n $pid ]] || seen='another process'
    ((SECONDS < deadline)) || fail "apt's lock is held by $seen for more than ${value[GPUCTL_LOCK_SECONDS]} s" 'ps -ef | grep -E "apt|dpkg"; then run this again'
    [[ $seen == "$holder" && -n $pid ]] || waiting "waiting for apt's lock, held by $seen"
    holder=$seen
    sleep 1
  done
}

# apt's own daily runs wait. Written down first: the next run, or a restart of the host, starts what a killed one stopped.
pause_timers() {
  local timer
  for timer in apt-daily.timer apt-daily-upgrade.timer; do
    if systemctl is-active --quiet "$timer"; then echo "$timer" >>"$paused" && systemctl_quiet stop "$timer"; fi
  done
}

resume_timers() {
  local timer
  [[ -e $paused ]] || return 0
  while read -r timer; do systemctl start "$timer" 9>&-; done <"$paused" >&2
  rm -f "$paused"
}

# Our own holds are for others to keep to; with one of somebody else in force, apt decides.
allow_own_holds() {
  local name
  apt_options=()
  while read -r name; do is_made "hold $name" || return 0; done < <(apt-mark showhold 2>/dev/null)
  apt_options=(--allow-change-held-packages)
}

refresh_lists() {
  [[ $lists_fresh == yes ]] && return
  # A source of somebody else that cannot be read is no reason to stop: whether packages are known is asked afterwards.
  apt update || :
  lists_fresh=yes
  lists_said=$(grep -E '^(W|E|Err)' <<<"$apt_said" | tail -1)
}

lists_trouble() { if [[ -n $lists_said ]]; then printf ' (%s)' "$lists_said"; fi; }

all_installed() { # names, or name=version
  local each
  for each in "$@"; do
    if [[ $each == *=* ]]; then [[ $(package_version "${each%%=*}") == "${each#*=}" ]] || return 1; else installed "$each" || return 1; fi
  done
}

ensure_packages() {
  all_installed "$@" && return
  refresh_lists
  mend_dpkg
  apt install "${apt_options[@]}" "$@" || fail "apt-get install $* failed: ${apt_said:-see $logs/apt.log}$(lists_trouble)" "tail -50 $logs/apt.log; then run this again"
  outcome='done'
  all_installed "$@" || fail "apt-get said nothing wrong, but not all of $* are installed" "tail -50 $logs/apt.log"
}

# What dpkg was doing when it was killed comes to its end first. What it was unpacking has to be unpacked; apt fetches that, and forgets it.
mend_dpkg() {
  local half options='--force-confdef --force-confold'
  # shellcheck disable=SC2086 # options are words
  patiently dpkg $options --configure -a
  half=$(dpkg-query -W -f '${db:Status-Eflag} ${Package}\n' | sed -n 's/^reinstreq //p')
  [[ -z $half ]] || patiently bash -c "cd \"\$(mktemp -d)\" && apt-get download ${half//$'\n'/ } && dpkg $options --unpack ./*.deb && rm ./*.deb"
  [[ -z $(dpkg --audit) ]] || apt "${apt_options[@]}" -f install || fail "dpkg was interrupted and cannot go on: $apt_said" "dpkg --configure -a; tail -50 $logs/apt.log"
}

fetch() { # fetch URL FILE MODE
  local said
  [[ -s $2 ]] && return
  made "file $2"
  mkdir -p "$(dirname "$2")"
  said=$(curl -fsSL --retry 4 --retry-connrefused --retry-delay 2 --connect-timeout 15 --max-time 120 -o "$2.gpuctl-new" "$1" 2>&1) || {
    rm -f "$2.gpuctl-new"
    printf '%s\n' "$said" >>"$logs/apt.log" 2>/dev/null
    fail "$1 cannot be fetched${said:+: ${said##*$'\n'}}" "curl -v $1; then run this again"
  }
  { chmod "$3" "$2.gpuctl-new" && mv "$2.gpuctl-new" "$2"; } || fail "$2 cannot be written" 'df -h /'
  outcome='done'
}

# A file of somebody else that apt reads a repository from; prints nothing when there is none.
source_of() { # source_of ADDRESS OUR-FILE
  local file
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    [[ -f $file && ${file##*/} != "$2" ]] || continue
    if [[ $file == *.sources ]] && grep -qiE '^enabled: *(no|false|off|0)' "$file"; then continue; fi
    if grep -vE '^[[:space:]]*#' "$file" | grep -qF -- "$1"; then
      echo "$file"
      return
    fi
  done
}

# repository NAME URL SUITE COMPONENTS KEY-URL KEY-FILE: unless somebody has it already, whose key would contradict ours.
repository() {
  local name=$1 url=$2 suite=$3 components=$4 key=$6 file=/etc/apt/sources.list.d/gpuctl-$1.sources other text
  other=$(source_of "${url#*://}" "gpuctl-$name.sources")
  if [[ -n $other ]]; then
    detail="$other has it already"
    return
  fi
  fetch "$5" "$key" 0644
  text="Types: deb"$'\n'"URIs: $url"$'\n'"Suites: $suite"$'\n'
  [[ -z $components ]] || text+="Components: $components"$'\n'
  write_file "$file" 0644 "${text}Architectures: $(dpkg --print-architecture)"$'\n'"Signed-By: $key"
  [[ $outcome == unchanged ]] || lists_fresh=no
}

systemctl_quiet() { systemctl "$@" >>"$logs/apt.log" 2>&1 9>&- </dev/null; }

enable_unit() { # enable_unit NAME [--now]
  systemctl is-enabled --quiet "$1" 2>/dev/null && { [[ ${2:-} != --now ]] || systemctl is-active --quiet "$1"; } && return
  systemctl_quiet enable ${2:+"$2"} "$1" || fail "$1 cannot be enabled" "systemctl status $1"
  outcome='done'
}

# ---------------------------------------------------------------- steps

step_files() {
  local text='' key
  if [[ $(readlink -f "$self") != "$state/prepare-host.sh" ]] && ! cmp -s "$self" "$state/prepare-host.sh"; then
    { cp "$self" "$state/prepare-host.sh.new" && mv "$state/prepare-host.sh.new" "$state/prepare-host.sh"; } 2>/dev/null ||
      fail "$state cannot be written" 'df -h /var'
    outcome='done'
  fi
  chmod 0750 /var/lib/gpuctl
  for key in $(printf '%s\n' "${!value[@]}" | sort); do
    [[ $key == GPUCTL_VALUES ]] || text+="$key=${value[$key]}"$'\n'
  done
  for key in "${authorized_keys[@]}"; do text+="GPUCTL_AUTHORIZED_KEY=$key"$'\n'; done
  write_file "$state/values" 0600 "${text%$'\n'}"
}

step_tools() {
  local wanted=(curl ca-certificates)
  [[ -z ${value[GPUCTL_DEPLOY_USER]} ]] || wanted+=(sudo)
  firewall_wanted && wanted+=(ufw)
  ensure_packages "${wanted[@]}"
}

step_user() {
  local user=${value[GPUCTL_DEPLOY_USER]} home
  if [[ -z $user ]]; then
    outcome=skipped detail='no GPUCTL_DEPLOY_USER'
    return
  fi
  if ! id "$user" >/dev/null 2>&1; then
    made "user $user"
    useradd --create-home --shell /bin/bash --password '*' "$user" >>"$logs/apt.log" 2>&1 || fail "user $user cannot be made" "tail $logs/apt.log"
    outcome='done'
  fi
  if [[ $user != root ]]; then
    # Who may talk to Docker may become root: asking for a password would protect nothing, and nobody is there to type it.
    write_file /etc/sudoers.d/gpuctl 0440 "$user ALL=(ALL) NOPASSWD: ALL"
    ! command -v visudo >/dev/null || visudo -c -q -f /etc/sudoers.d/gpuctl || { rm -f /etc/sudoers.d/gpuctl; fail 'sudo refuses its new rule' 'visudo -c'; }
  fi
  home=$(getent passwd "$user" | cut -d: -f6)
  [[ ${#authorized_keys[@]} -eq 0 ]] || place_keys "$user" "$home/.ssh"
}

place_keys() { # place_keys USER FOLDER
  local file=$2/authorized_keys text key
  text=$(sed '/^# gpuctl begin$/,/^# gpuctl end$/d' "$file" 2>/dev/null)
  text+=${text:+$'\n'}'# gpuctl begin'
  for key in "${authorized_keys[@]}"; do text+=$'\n'$key; done
  text+=$'\n''# gpuctl end'
  [[ -f $file && $(cat "$file") == "$text" ]] && return
  made "keys $1 $file"
  install -d -m 0700 -o "$1" -g "$(id -gn "$1")" "$2"
  { printf '%s\n' "$text" >"$file.gpuctl-new" && chmod 0600 "$file.gpuctl-new" && chown "$1:" "$file.gpuctl-new" && mv "$file.gpuctl-new" "$file"; } ||
    { rm -f "$file.gpuctl-new"; fail "$file cannot be written" 'df -h /'; }
  outcome='done'
}

step_docker_repository() {
  local base=${value[GPUCTL_DOCKER_REPOSITORY]}/$distribution
  all_installed "${docker_packages[@]}" && { detail='Docker is installed'; return; }
  repository docker "$base" "$codename" stable "$base/gpg" /etc/apt/keyrings/gpuctl-docker.asc
}

step_docker_settings() {
  local said status
  if ! wants_gpu; then
    outcome=skipped detail='no GPU'
    return
  fi
  mkdir -p /etc/docker
  said=$(daemon_json write 2>&1)
  status=$?
  case $status in
    0) ;;
    9) outcome='done' detail='features.cdi is on in /etc/docker/daemon.json' ;;
    *) rm -f /etc/docker/daemon.json.gpuctl-new
      fail "/etc/docker/daemon.json cannot be written: $(tail -1 <<<"$said")" 'df -h /etc' ;;
  esac
}

docker_has_cdi() { [[ $(timeout 20 docker info --format '{{json .CDISpecDirs}}' 2>/dev/null) == *'"'* ]]; }

docker_answers() {
  local n
  for ((n = 0; n < 60; n++)); do
    [[ -n $(docker_engine) ]] && return
    sleep 1
  done
  return 1
}

step_docker() {
  local running
  ensure_packages "${docker_packages[@]}"
  enable_unit docker.service --now
  docker_answers || fail "Docker does not answer" 'systemctl status docker; journalctl -u docker -n 50'
  if wants_gpu && ! docker_has_cdi; then
    running=$(timeout 20 docker ps -q 2>/dev/null | wc -l)
    if ((running > 0)) && [[ $(timeout 20 docker info --format '{{.LiveRestoreEnabled}}' 2>/dev/null) != true ]]; then
      fail "Docker has to be restarted before it can give out GPUs, and $running containers would end" 'systemctl restart docker, at a time of your choosing; then run this again'
    fi
    { systemctl_quiet restart docker.service && docker_answers; } || fail 'Docker does not start again' 'journalctl -u docker -n 50'
    docker_has_cdi || fail 'Docker has CDI switched off in spite of its configuration' 'docker info | grep -i cdi; journalctl -u docker -n 50'
    outcome='done'
  fi
  detail="Docker $(docker_engine)"
  if [[ -n ${value[GPUCTL_DEPLOY_USER]} && ${value[GPUCTL_DEPLOY_USER]} != root ]] && ! id -nG "${value[GPUCTL_DEPLOY_USER]}" | grep -qw docker; then
    made "group ${value[GPUCTL_DEPLOY_USER]}"
    usermod -aG docker "${value[GPUCTL_DEPLOY_USER]}" || fail "${value[GPUCTL_DEPLOY_USER]} cannot join the group docker" 'getent group docker'
    outcome='done'
  fi
}

step_driver() {
  case $driver in
    none) outcome=skipped detail=$([[ $gpus -gt 0 ]] && echo 'GPUCTL_GPU=none' || echo 'no GPU') ;;
    keep | present) detail="driver $(disk_driver)" ;;
    signed | dkms)
      if [[ $distribution == debian ]]; then driver_repository; fi
      allow_own_holds
      made driver
      ensure_packages "${driver_packages[@]}"
      apt_options=()
      [[ -n $(disk_driver) || $driver == signed ]] || fail "the driver's modules could not be built for kernel $(uname -r)" 'dkms status; ls /var/lib/dkms/nvidia*/*/build/make.log'
      detail="$driver, ${driver_packages[*]}"
      ;;
  esac
}

driver_repository() {
  local base architecture=x86_64
  [[ $(dpkg --print-architecture) == arm64 ]] && architecture=sbsa
  base=${value[GPUCTL_DRIVER_REPOSITORY]}/debian$version_id/$architecture
  repository driver "$base/" / '' "$base/cuda-archive-keyring.gpg" /etc/apt/keyrings/gpuctl-driver.gpg
  # The pin is a package itself: it has to be there before anything else of the repository is chosen.
  ensure_packages "nvidia-driver-pinning-$branch"
}

kernel_flavour() { uname -r | sed -E 's/^[^-]*-([0-9]+-)?//'; }

# Installed packages that must only move together.
driver_set() {
  local flavour version
  flavour=$(kernel_flavour)
  version=${version_id//./\\.}
  installed_like "^(lib)?nvidia-|^libcuda1$|^(linux|firmware)-(modules|objects|signatures)?-?nvidia-|^linux-(image-|headers-|modules-extra-)?($flavour|generic|virtual)(-hwe-$version)?$"
}

step_hold() {
  local name missing=() held
  if [[ $driver == none ]]; then
    outcome=skipped detail='no driver'
    return
  fi
  held=$(apt-mark showhold 2>/dev/null)
  while read -r name; do
    grep -qxF -- "$name" <<<"$held" && continue
    made "hold $name"
    missing+=("$name")
  done < <(driver_set)
  if [[ ${#missing[@]} -gt 0 ]]; then
    mark hold "${missing[@]}"
    outcome='done'
  fi
  write_file /etc/apt/apt.conf.d/52gpuctl-driver 0644 '// The GPU driver, its modules and the kernel are one set: gpuctl host upgrade moves them together.
Unattended-Upgrade::Package-Blacklist { "nvidia-"; "libnvidia-"; "libcuda1"; "linux-modules-"; "linux-objects-nvidia-"; "linux-signatures-nvidia-"; "firmware-nvidia-"; "linux-image-"; "linux-headers-"; "linux-generic"; "linux-virtual"; };'
  detail="$(driver_set | wc -l) packages are held"
}

step_toolkit_repository() {
  local base=${value[GPUCTL_TOOLKIT_REPOSITORY]}
  if ! wants_gpu; then
    outcome=skipped detail='no GPU'
    return
  fi
  all_installed "${toolkit_packages[@]/%/=$toolkit_version}" && { detail='the toolkit is installed'; return; }
  repository toolkit "$base/stable/deb/$(dpkg --print-architecture)/" / '' "$base/gpgkey" /etc/apt/keyrings/gpuctl-toolkit.asc
}

step_toolkit() {
  if ! wants_gpu; then
    outcome=skipped detail='no GPU'
    return
  fi
  if ! all_installed "${toolkit_packages[@]/%/=$toolkit_version}"; then
    allow_own_holds
    apt_options+=(--allow-downgrades)
    ensure_packages "${toolkit_packages[@]/%/=$toolkit_version}"
    apt_options=()
  fi
  detail="NVIDIA Container Toolkit $toolkit_version"
}

step_persistence() {
  local line
  if ! wants_gpu; then
    outcome=skipped detail='no GPU'
    return
  fi
  # Ubuntu's unit starts the daemon without the mode that it is for, and ends it when no device asks for it.
  line=$(systemctl cat nvidia-persistenced.service 2>/dev/null | sed -n 's/^ExecStart=\(.*--no-persistence-mode.*\)/\1/p' | tail -1)
  if [[ -n $line ]]; then
    write_file $units/nvidia-persistenced.service.d/gpuctl.conf 0644 "[Unit]
StopWhenUnneeded=false

[Service]
ExecStart=
ExecStart=${line/--no-persistence-mode/--persistence-mode}"
  fi
  write_file /etc/modules-load.d/gpuctl.conf 0644 nvidia_uvm
  [[ $outcome == unchanged ]] || reload_units
}

reload_units() { systemctl_quiet daemon-reload || fail 'systemd does not read its units' 'systemctl daemon-reload'; }

step_units() {
  write_file $units/gpuctl-host.service 0644 "[Unit]
Description=gpuctl: verify the host after its restart
ConditionPathExists=$state/resume
Wants=network-online.target
After=network-online.target docker.service nvidia-persistenced.service

[Service]
Type=oneshot
ExecStart=/bin/bash $state/prepare-host.sh --resume

[Install]
WantedBy=multi-user.target"
  write_file $units/gpuctl-reboot.service 0644 "[Unit]
Description=gpuctl: restart the host

[Service]
ExecStart=/bin/bash $state/prepare-host.sh --reboot"
  write_file $units/gpuctl-firewall.service 0644 "[Unit]
Description=gpuctl: who reaches the service ports
ConditionPathExists=$state/values
Wants=network-online.target
After=ufw.service network-online.target
Before=docker.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/bash $state/prepare-host.sh --firewall

[Install]
WantedBy=multi-user.target"
  write_file $units/gpuctl-gpu.service 0644 "[Unit]
Description=gpuctl: keep the GPU ready
ConditionPathExists=/usr/bin/nvidia-persistenced
Wants=nvidia-persistenced.service
After=nvidia-persistenced.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'modprobe nvidia_uvm; nvidia-modprobe -u -c 0 || true'

[Install]
WantedBy=multi-user.target"
  [[ $outcome == unchanged ]] || reload_units
  enable_unit gpuctl-host.service
  enable_unit gpuctl-firewall.service
  if wants_gpu; then enable_unit gpuctl-gpu.service; fi
}

# ---------------------------------------------------------------- firewall

firewall_wanted() { [[ -n ${value[GPUCTL_SSH_ADDRESSES]} || ( -n ${value[GPUCTL_APP_ADDRESSES]} && -n ${value[GPUCTL_SERVICE_PORTS]} ) ]]; }

ssh_ports() { { sshd -T 2>/dev/null | awk '$1 == "port" { print $2 }' | grep . || echo 22; } | sort -un; }

# Who may come goes before everybody's rules, who may not after them: a rule of somebody else with an address stays in force.
ufw_rules() {
  local port
  if [[ -n ${value[GPUCTL_APP_ADDRESSES]} ]]; then
    for port in ${value[GPUCTL_SERVICE_PORTS]//,/ }; do ufw_port "$port" "${value[GPUCTL_APP_ADDRESSES]}"; done
  fi
  [[ -n ${value[GPUCTL_SSH_ADDRESSES]} ]] || return 0
  for port in $(ssh_ports); do ufw_port "$port" "${value[GPUCTL_SSH_ADDRESSES]}"; done
}

# ufw forgets the family of "everybody": one family alone is written as its two halves.
ufw_port() { # ufw_port PORT NETWORKS, in ufw's own words
  local network list=",$2,"
  if [[ $list == *,0.0.0.0/0,* && $list == *,::/0,* ]]; then
    echo "allow $1/tcp"
    return
  fi
  list=${2/#0.0.0.0\/0/0.0.0.0\/1,128.0.0.0\/1} list=${list//,0.0.0.0\/0/,0.0.0.0\/1,128.0.0.0\/1}
  list=${list/#::\/0/::\/1,8000::\/1} list=${list//,::\/0/,::\/1,8000::\/1}
  list=${list#nobody}
  for network in ${list//,/ }; do echo "allow from ${network%/32} to any port $1 proto tcp" | sed 's#/128 # #'; done
  echo "deny $1/tcp"
}

ufw_own() { ufw show added 2>/dev/null | sed -n "s/^ufw \(.*\) comment 'gpuctl'$/\1/p"; }
ufw_foreign() { ufw show added 2>/dev/null | grep -v "comment 'gpuctl'$" | sed -n "s/ comment '.*//; s/^ufw //p"; }
# What ufw does with what no rule names, in the word that its command takes.
ufw_default() {
  case $(sed -n 's/^DEFAULT_INPUT_POLICY=//p' /etc/default/ufw 2>/dev/null) in
    *ACCEPT*) echo allow ;;
    *REJECT*) echo reject ;;
    *) echo deny ;;
  esac
}

ufw_active() { [[ $(ufw status 2>/dev/null) == *'Status: active'* ]]; }

step_ufw() {
  local rule own wanted
  if ! firewall_wanted && [[ -z $(ufw_own) ]]; then
    outcome=skipped detail='no addresses were given'
    return
  fi
  own=$(ufw_own) wanted=$(ufw_rules)
  while read -r rule; do
    if [[ -z $rule ]] || grep -qxF -- "$rule" <<<"$own"$'\n'"$(ufw_foreign)"; then continue; fi
    [[ $rule == allow* ]] && rule="prepend $rule"
    # shellcheck disable=SC2086 # a rule is words
    ufw $rule comment gpuctl >>"$logs/apt.log" 2>&1 || fail "ufw refuses the rule: $rule" "ufw $rule"
    outcome='done'
  done <<<"$wanted"
  while read -r rule; do
    if [[ -z $rule ]] || grep -qxF -- "$rule" <<<"$wanted"; then continue; fi
    # shellcheck disable=SC2086
    ufw --force delete $rule >>"$logs/apt.log" 2>&1 || fail "ufw cannot delete the rule: $rule" 'ufw status numbered'
    outcome='done'
  done <<<"$own"
  # With nothing wanted any more, a firewall that somebody switched off stays off.
  if ufw_active || ! firewall_wanted; then return; fi
  # Only the ports that were named are closed: what else listens on this host is not ours to cut off.
  grep -qs '^ufw enabled' "$state/made" || made "ufw enabled $(ufw_default)"
  { ufw default allow incoming && ufw --force enable; } >>"$logs/apt.log" 2>&1 || fail 'ufw cannot be enabled' 'ufw status verbose'
  outcome='done'
}

# Bridges such as br-lan look like Docker's, and the outside comes in by them.
other_bridges() {
  local path
  for path in /sys/class/net/br-*; do
    if [[ -e $path && ! ${path##*/} =~ ^br-[0-9a-f]{12}$ ]]; then echo "${path##*/}"; fi
  done
}

# Ports that Docker publishes pass by ufw; what comes from containers of this host is none of the outside. Docker makes networks at any
# time, so theirs are not listed one by one: other bridges are.
published_rules() { # published_rules FAMILY, as iptables -S prints them
  local port bridge mark
  [[ -n ${value[GPUCTL_APP_ADDRESSES]} ]] || return 0
  for port in ${value[GPUCTL_SERVICE_PORTS]//,/ }; do
    mark="-p tcp -m conntrack --ctorigdstport $port --ctdir ORIGINAL -m comment --comment gpuctl"
    for bridge in $(other_bridges); do
      admitted "$1" "-i $bridge $mark"
      echo "-A DOCKER-USER -i $bridge $mark -j DROP"
    done
    echo "-A DOCKER-USER -i docker0 $mark -j RETURN"
    echo "-A DOCKER-USER -i br-+ $mark -j RETURN"
    admitted "$1" "$mark"
    echo "-A DOCKER-USER $mark -j DROP"
  done
}

admitted() { # admitted FAMILY MATCH
  local network
  for network in ${value[GPUCTL_APP_ADDRESSES]//,/ }; do
    if [[ $network == *:* && $1 == 6 || $network == *.*/* && $network != *:* && $1 == 4 ]]; then echo "-A DOCKER-USER -s $network $2 -j RETURN" | sed 's# -s \(0\.0\.0\.0\|::\)/0##'; fi
  done
}

# publish_rules PROGRAM FAMILY: all at once or not at all; rules of others in the chain stay.
publish_rules() {
  local tables=$1 present wanted rule script='' n=0
  command -v "$tables" >/dev/null || return 0
  "$tables" -w 10 -n -L >/dev/null 2>&1 || return 0
  exec 8>>/run/gpuctl-published.lock
  flock -w 60 8 || fail 'another run writes the rules of the service ports, and does not end' 'ps -ef | grep prepare-host'
  present=$("$tables" -w 10 -S DOCKER-USER 2>/dev/null | grep -- '--comment gpuctl ')
  wanted=$(published_rules "$2")
  if [[ $present == "$wanted" ]]; then
    exec 8>&-
    return
  fi
  "$tables" -w 10 -N DOCKER-USER 2>/dev/null || :
  while read -r rule; do [[ -z $rule ]] || script+="-D ${rule#-A }"$'\n'; done <<<"$present"
  while read -r rule; do
    [[ -n $rule ]] || continue
    n=$((n + 1))
    script+="-I DOCKER-USER $n ${rule#-A DOCKER-USER }"$'\n'
  done <<<"$wanted"
  printf '*filter\n%sCOMMIT\n' "$script" | "$tables-restore" -w 10 --noflush >>"$logs/apt.log" 2>&1 || fail "$tables refuses the rules of the service ports" "$tables -S DOCKER-USER"
  exec 8>&-
  outcome='done'
}

step_published() {
  publish_rules iptables 4
  publish_rules ip6tables 6
  if [[ $outcome == unchanged && -z $(published_rules 4) ]]; then outcome=skipped detail='no addresses were given'; fi
}

# ---------------------------------------------------------------- the driver at work

step_upgrade() {
  local names bound before after of_one_kernel='-[0-9]+\.[0-9]+\.[0-9]+-[0-9]'
  # Modules of one kernel are bound to one driver: they stay behind or go, and those of the new kernel come with its package.
  mapfile -t names < <(driver_set | grep -vE "container|^nvidia-driver-pinning|$of_one_kernel")
  if [[ $driver == none || ${#names[@]} -eq 0 ]]; then
    outcome=skipped detail='no driver'
    return
  fi
  before=$(dpkg-query -W -f '${Package}=${Version}\n' | sort)
  mapfile -t bound < <(driver_set | grep -E -- "$of_one_kernel")
  if [[ ${#bound[@]} -gt 0 ]]; then mark unhold "${bound[@]}"; fi
  refresh_lists
  boot_id >"$state/upgrading" || fail "$state cannot be written" 'df -h /var'
  apt install --only-upgrade --allow-change-held-packages "${names[@]}" ||
    fail "driver, modules and kernel cannot be upgraded: ${apt_said:-see $logs/apt.log}" "tail -50 $logs/apt.log; then run this again"
  after=$(dpkg-query -W -f '${Package}=${Version}\n' | sort)
  if [[ $before == "$after" ]]; then
    rm -f "$state/upgrading"
    return
  fi
  outcome='done' detail=$(comm -13 <(echo "$before") <(echo "$after") | tr '\n' ' ')
}

step_module() {
  local loaded disk said
  if ! wants_gpu; then
    outcome=skipped detail='no GPU'
    return
  fi
  loaded=$(loaded_driver) disk=$(disk_driver)
  if [[ -f $state/upgrading && $(cat "$state/upgrading") == "$(boot_id)" ]]; then
    reboot_because='driver, modules and kernel were upgraded'
  elif [[ -n $loaded && -n $disk && $loaded != "$disk" ]]; then
    reboot_because="the kernel has driver $loaded loaded, and $disk is installed"
  elif [[ -z $loaded && -d /sys/module/nouveau ]]; then
    reboot_because='the kernel uses nouveau for the GPU'
  elif [[ -z $loaded ]]; then
    if said=$(modprobe nvidia 2>&1); then outcome='done'; elif [[ -z $disk ]]; then
      reboot_because="the driver's modules are for another kernel than $(uname -r)"
    elif [[ $said == *'Key was rejected'* ]]; then
      fail 'Secure Boot refuses the signature of the driver' 'switch Secure Boot off in the firmware, or use the signed modules of Ubuntu'
    else fail "the driver's module cannot be loaded: ${said##*modprobe: }" 'dmesg | tail -30'; fi
  fi
  if [[ -z $reboot_because && $(timeout 30 nvidia-smi 2>&1) == *'version mismatch'* ]]; then
    reboot_because='the driver was upgraded under the module that is loaded'
  fi
  [[ -n $reboot_because ]] || rm -f "$state/upgrading"
  detail=${reboot_because:-driver $(loaded_driver)}
}

cdi_ready() { [[ $(timeout 30 nvidia-ctk cdi list 2>/dev/null) == *nvidia.com/gpu=all* ]] && cdi_fits; }

# The specification names libraries of the driver it was made for.
cdi_fits() {
  local version
  version=$(loaded_driver)
  [[ -z $version ]] || grep -qsF -- "$version" /var/run/cdi/nvidia.yaml /etc/cdi/nvidia.yaml
}

step_devices() {
  local on
  if ! wants_gpu || [[ -n $reboot_because ]]; then
    outcome=skipped detail=${reboot_because:-no GPU}
    return
  fi
  on=$(persistence_mode)
  if [[ $on == *Disabled* ]]; then
    systemctl_quiet restart nvidia-persistenced.service || timeout 30 nvidia-smi -pm 1 >>"$logs/apt.log" 2>&1
    outcome='done'
  fi
  systemctl_quiet start gpuctl-gpu.service || fail 'the GPU cannot be made ready' 'systemctl status gpuctl-gpu'
  cdi_ready && return
  systemctl_quiet enable --now nvidia-cdi-refresh.path nvidia-cdi-refresh.service && systemctl_quiet restart nvidia-cdi-refresh.service
  cdi_ready || nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml >>"$logs/apt.log" 2>&1
  cdi_ready || fail 'the toolkit finds no GPU to describe' 'nvidia-ctk cdi list; journalctl -u nvidia-cdi-refresh -n 30'
  outcome='done'
}

persistence_mode() { timeout 30 nvidia-smi --query-gpu=persistence_mode --format=csv,noheader 2>/dev/null; }

# What is no fault, and may become one: said to the operator when it is new.
step_limits() {
  local swap warnings=''
  swap=$(awk '$1 == "SwapTotal:" { print int($2 / 1024) }' /proc/meminfo)
  detail="$swap MiB of swap"
  [[ $swap != 0 ]] || warnings='no swap: what needs more memory than there is, is ended by the kernel'
  [[ $(cat /proc/sys/vm/overcommit_memory) != 2 ]] || warnings+="${warnings:+; }vm.overcommit_memory is 2: CUDA reserves more than it uses and may fail"
  [[ $warnings != "$(cat "$state/warned" 2>/dev/null)" ]] || return 0
  [[ -z $warnings ]] || log warning '' "$warnings"
  printf '%s\n' "$warnings" >"$state/warned" 2>/dev/null || :
}

# ---------------------------------------------------------------- is it so

# What is not as it should be, one finding a line: what|next
findings() {
  local missing
  [[ -n $(docker_engine) ]] || echo 'Docker does not answer|systemctl status docker'
  timeout 20 docker compose version >/dev/null 2>&1 || echo 'Docker has no Compose plugin|apt-get install docker-compose-plugin'
  [[ $(cat /proc/sys/net/ipv4/ip_forward) == 1 ]] || echo 'net.ipv4.ip_forward is 0: published ports lead nowhere|grep -r ip_forward /etc/sysctl.conf /etc/sysctl.d'
  [[ -z ${value[GPUCTL_DEPLOY_USER]} ]] || [[ ${value[GPUCTL_DEPLOY_USER]} == root ]] || id -nG "${value[GPUCTL_DEPLOY_USER]}" 2>/dev/null | grep -qw docker ||
    echo "${value[GPUCTL_DEPLOY_USER]} is not in the group docker|gpuctl host prepare"
  if [[ $(published_rules 4) != "$(iptables -w 10 -S DOCKER-USER 2>/dev/null | grep -- '--comment gpuctl ')" ]]; then
    echo 'the rules of the service ports are not in DOCKER-USER|systemctl restart gpuctl-firewall'
  fi
  if firewall_wanted && ! ufw_active; then echo 'ufw is not active|ufw enable'; fi
  [[ ${value[GPUCTL_GPU]} != require || $gpus -gt 0 ]] || echo 'there is no NVIDIA GPU on the PCI bus|lspci -nn | grep -i nvidia'
  wants_gpu || return 0
  gpu_findings
  missing=$(comm -23 <(driver_set) <(apt-mark showhold 2>/dev/null | sort) | tr '\n' ' ')
  [[ -z $missing ]] || echo "packages of the driver set are not held: $missing|apt-mark hold $missing"
}

gpu_findings() {
  local listed said
  said=$(timeout 30 nvidia-smi -L 2>&1)
  listed=$(grep -c '^GPU ' <<<"$said")
  if [[ $listed -eq 0 ]]; then
    echo "nvidia-smi sees no GPU: $(tail -1 <<<"$said" | tr '|' ' ')|nvidia-smi; dmesg | grep -i nvrm"
    return
  fi
  [[ $listed -ge $gpus ]] || echo "nvidia-smi sees $listed of $gpus GPUs|dmesg | grep -i nvrm"
  [[ -z $(disk_driver) || $(disk_driver) == "$(loaded_driver)" ]] || echo "the kernel has driver $(loaded_driver) loaded, and $(disk_driver) is installed|reboot"
  docker_has_cdi || echo 'Docker has CDI switched off|systemctl restart docker'
  cdi_ready || echo 'no CDI specification fits the driver|systemctl restart nvidia-cdi-refresh'
  [[ $(persistence_mode) != *Disabled* ]] || echo 'persistence mode is off|systemctl restart nvidia-persistenced'
}

step_verify() {
  local first
  first=$(findings)
  [[ -z $first ]] && return
  first=${first%%$'\n'*}
  fail "${first%%|*}" "${first#*|}"
}

# ---------------------------------------------------------------- modes

restart_or_say() {
  step=reboot
  log start '' "$reboot_because"
  if [[ $rebooted == yes ]]; then
    rm -f "$state/resume"
    fail "the host was restarted, and still: $reboot_because" "tail $logs/apt.log; dmesg | grep -iE 'nvidia|nvrm|nouveau'"
  fi
  boot_id >"$state/resume" || fail "$state cannot be written" 'df -h /var'
  [[ ${value[GPUCTL_REBOOT]} == yes ]] || finish 4 reboot-needed "$reboot_because" 'reboot; what is left is done and verified afterwards'
  write_result rebooting "$reboot_because" 'wait for it'
  systemctl_quiet start --no-block gpuctl-reboot.service || fail 'the restart cannot be started' 'reboot'
  log end 'done' 'rebooting'
  exit 4
}

prepare() {
  if [[ -f $state/resume && $(cat "$state/resume") != "$(boot_id)" ]]; then rebooted=yes; fi
  run_step host check_host
  run_step docker-present check_docker
  run_step sources check_sources
  run_step firewall-present check_firewall
  run_step driver-plan check_driver
  run_step room check_room
  run_step held check_held
  run_step files step_files
  run_step tools step_tools
  run_step user step_user
  run_step docker-repository step_docker_repository
  run_step docker-settings step_docker_settings
  run_step docker step_docker
  run_step driver step_driver
  if [[ $mode == upgrade ]]; then run_step upgrade step_upgrade; fi
  run_step toolkit-repository step_toolkit_repository
  run_step toolkit step_toolkit
  run_step hold step_hold
  run_step persistence step_persistence
  run_step ufw step_ufw
  run_step published step_published
  run_step units step_units
  run_step module step_module
  run_step devices step_devices
  run_step limits step_limits
  [[ -z $reboot_because ]] || restart_or_say
  run_step verify step_verify
  rm -f "$state/resume"
  finish 0 prepared '' ''
}

check() {
  local found first
  [[ -f $state/values ]] || { step=check; result_json failed 'this host was not prepared' 'gpuctl host prepare'; exit 1; }
  step=check
  read_system
  count_gpus
  found=$(findings)
  if [[ -z $found ]]; then
    result_json prepared '' ''
    exit 0
  fi
  first=${found%%$'\n'*}
  found=$(cut -d'|' -f1 <<<"$found")
  result_json failed "${found//$'\n'/; }" "${first#*|}"
  exit 1
}

# A restart in the middle of cloud-init's last stage would leave that half done.
restart_host() {
  local n
  for ((n = 0; n < 900; n++)); do
    [[ $(systemctl is-active cloud-final.service 2>/dev/null) == activating ]] || break
    sleep 1
  done
  # Time for the exit status to arrive where it is waited for.
  sleep 2
  systemctl reboot
}

remove() {
  local kind what more running
  step=remove
  log start '' ''
  [[ -f $state/made ]] || { mode=check; rm -rf "$state" "$logs"; log end unchanged 'nothing here was made by gpuctl'; exit 0; }
  # They would go on answering, and without the rules everybody.
  running=$(timeout 20 docker ps --filter label=dev.gpuctl.instance --format '{{.Names}}' 2>/dev/null) || ! pgrep -f containerd-shim >/dev/null ||
    refuse 'containers run here, and Docker does not say which' 'systemctl restart docker; then run this again'
  [[ -z $running ]] || refuse "releases serve here: ${running//$'\n'/ }" 'gpuctl destroy, or docker rm --force; then run this again'
  # First, while all that was made is still known: a lock that is not given back ends the run here, and the next one goes on.
  release_holds
  value[GPUCTL_APP_ADDRESSES]='' value[GPUCTL_SSH_ADDRESSES]=''
  publish_rules iptables 4
  publish_rules ip6tables 6
  if command -v ufw >/dev/null; then step_ufw; fi
  systemctl_quiet disable --now gpuctl-host.service gpuctl-firewall.service gpuctl-gpu.service
  # The last made goes first; Docker, driver and toolkit stay, and so do their repositories, which bring security fixes.
  while read -r kind what more; do
    remove_one "$kind" "$what" "$more"
  done < <(tac "$state/made")
  systemctl_quiet daemon-reload
  cd / && rm -rf "$state" "$logs"
  mode=check
  printf '{"time":"%s","step":"remove","event":"end","result":"done"}\n' "$(now)"
  exit 0
}

# Those that this script made; of packages that are gone, dpkg knows no hold.
release_holds() {
  local name ours=()
  while read -r name; do if is_made "hold $name"; then ours+=("$name"); fi; done < <(apt-mark showhold 2>/dev/null)
  if [[ ${#ours[@]} -gt 0 ]]; then mark unhold "${ours[@]}"; fi
}

remove_one() { # remove_one KIND WHAT MORE
  case $1 in
    file)
      [[ $2 == /etc/apt/sources.list.d/* || $2 == /etc/apt/keyrings/* ]] || rm -f "$2"
      rmdir --ignore-fail-on-non-empty "$units/nvidia-persistenced.service.d" 2>/dev/null || :
      ;;
    keys) sed -i '/^# gpuctl begin$/,/^# gpuctl end$/d' "$3" 2>/dev/null ;;
    group) gpasswd -d "$2" docker >>"$logs/apt.log" 2>&1 ;;
    user) userdel "$2" >>"$logs/apt.log" 2>&1 || log start '' "user $2 stays: it is in use" ;;
    ufw)
      # With rules of somebody it is not ours any more; a stricter default would cut off what those do not name.
      if [[ -n $(ufw_foreign) ]]; then
        log start '' 'ufw stays as it is: it has rules of somebody else'
      elif ufw --force disable >>"$logs/apt.log" 2>&1; then
        ufw default "${3:-deny}" incoming >>"$logs/apt.log" 2>&1
      fi
      ;;
  esac
}

# One run at a time: whoever comes second waits, then finds everything done. The lock ends with the last process of a run.
take_lock() {
  exec 9>>/run/gpuctl-prepare.lock
  if ! flock -n 9; then
    step=lock
    waiting 'another run prepares this host: waiting for its end'
    flock -w 3600 9 || { log end failed 'another run has held the lock for an hour'; exit 1; }
  fi
  trap resume_timers EXIT
}

interrupted() {
  trap - INT TERM
  write_result failed 'it was interrupted' 'run it again: it goes on where it was'
  log end failed 'interrupted'
  exit 1
}

main() {
  local source=''
  self=$(readlink -f "${BASH_SOURCE[0]}")
  case ${1:-} in
    --check) mode=check ;;
    --remove | --resume | --firewall | --reboot) mode=${1#--} ;;
    --upgrade) mode=upgrade source=${2:-} ;;
    '' | --*) values_wrong 'usage: prepare-host.sh [--upgrade] FILE | - ; --check ; --remove' ;;
    *) source=$1 ;;
  esac
  step=start
  command -v python3 >/dev/null || { log end failed 'python3 is not installed; next: apt-get install python3'; exit 3; }
  [[ $EUID -eq 0 ]] || { log end failed 'this needs root; next: sudo bash prepare-host.sh'; exit 3; }
  case $mode in
    prepare | upgrade)
      if [[ $source == - ]]; then source=/dev/stdin; fi
      [[ -n $source && -r $source ]] || values_wrong "$source cannot be read"
      read_values "$source" ;;
    *) if [[ -f $state/values ]]; then read_values "$state/values"; fi ;;
  esac
  if [[ $mode == check ]]; then check; fi
  if [[ $mode == reboot ]]; then restart_host; exit; fi
  mkdir -p "$state" "$logs" 2>/dev/null || { log end failed '/var cannot be written; next: df -h /var'; exit 1; }
  case $mode in
    # Docker waits for this at boot, and a run that holds the lock may wait for Docker: so this one does not wait for it.
    firewall) run_step published step_published ;;
    remove)
      take_lock
      remove ;;
    *)
      take_lock
      trap interrupted INT TERM
      prepare ;;
  esac
}

main "$@"
