#!/usr/bin/env bash
# prepare.sh CACHE MIRROR: what the bed is made of, fetched and unpacked once. Prints the folder that holds it.
#
#   <key>/host/     root file system of every host: Debian trixie with sshd and runc, sid's Docker, Compose, buildx and Caddy on top
#   <key>/base.tar  root file system of the container base image: Debian trixie with Python
#
# Nothing is installed on this machine. apt checks every package list against Debian's keyring, and every package against its list.
set -euo pipefail

# shellcheck source=../made-once.sh
. "$(dirname "$0")/../made-once.sh"
cache=$1/bed
mirror=$2
suite=trixie
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
# Debian's stable Docker is older than what CDI and the tests need; these run on any libc since 2.34.
from_sid=(docker.io docker-cli containerd docker-compose docker-buildx caddy)
in_base=(python3 python3-venv ca-certificates)
on_host=(openssh-server sudo iptables iproute2 procps curl ca-certificates python3 runc tini xz-utils docker-registry libfaketime)

say() { printf '%s\n' "$*" >&2; }

# apt with lists, state and packages of its own: the machine's are neither read nor written.
apt() {
  local release=$1
  shift
  local home=$cache/apt-$release
  mkdir -p "$home"/{lists/partial,archives/partial,empty}
  printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$release" >"$home/sources.list"
  apt-get -qq -o Dir::Etc::SourceList="$home/sources.list" -o Dir::Etc::SourceParts="$home/empty" \
    -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts="$home/empty" -o Dir::State="$home" \
    -o Dir::State::Lists="$home/lists" -o Dir::State::Status=/dev/null -o Dir::Cache="$home" -o Acquire::Languages=none \
    -o APT::Sandbox::User=root "$@" >&2
}

# download RELEASE FOLDER PACKAGE...
download() {
  local release=$1 folder=$2
  shift 2
  mkdir -p "$folder"
  [[ -e $folder/complete ]] && return
  say "fetching $* from Debian $release"
  apt "$release" update
  (cd "$folder" && apt "$release" download "$@")
  touch "$folder/complete"
}

# bootstrap FOLDER PACKAGE,PACKAGE...
bootstrap() {
  say "making a Debian $suite root file system with $2"
  DEBOOTSTRAP_DIR=$work/debootstrap/usr/share/debootstrap "$work/debootstrap/usr/sbin/debootstrap" --variant=minbase \
    --keyring="$keyring" --cache-dir="$cache/packages" --include="$2" "$suite" "$1" "$mirror" >"$work/debootstrap.log" 2>&1 ||
    { tail -20 "$work/debootstrap.log" >&2; return 1; }
  rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/* "$1"/usr/share/{doc,man,locale}/* "$1"/var/log/*.log
}

unpack_sid() {
  local deb
  for deb in "$cache"/sid/*.deb; do
    # Its files only: what maintainer scripts would do (users, services) is done below or not wanted.
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$1" --keep-directory-symlink \
      --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./etc/init.d/*'
  done
  chroot "$1" groupadd --force docker
}

# Everything that is the same on every host; what differs is written when one starts.
settle_host() {
  local root=$1
  rm -f "$root"/etc/ssh/ssh_host_*
  # No password, which is not the same as the locked account that `!` would be.
  chroot "$root" useradd --create-home --shell /bin/bash --groups docker --password '*' deploy
  echo 'deploy ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/deploy"
  chmod 0440 "$root/etc/sudoers.d/deploy"
  mkdir -p "$root"/etc/{docker,cdi}
  cat >"$root/etc/ssh/sshd_config.d/bed.conf" <<'CONFIG'
PermitRootLogin prohibit-password
AuthorizedKeysFile /etc/ssh/client_key.pub
PasswordAuthentication no
UsePAM no
UseDNS no
MaxStartups 10:30:60
CONFIG
}

made_once "$cache/" "$0"
download sid "$cache/sid" "${from_sid[@]}"
download "$suite" "$cache/tools" debootstrap
mkdir -p "$work/debootstrap" "$cache/packages"
dpkg-deb -x "$cache"/tools/debootstrap_*.deb "$work/debootstrap"

bootstrap "$work/base" "$(IFS=,; echo "${in_base[*]}")"
tar -C "$work/base" --numeric-owner --exclude='./dev/*' --exclude='./var/cache/debconf/*' -cf "$work/base.tar" .
rm -rf --one-file-system "$work/base"
bootstrap "$work/host" "$(IFS=,; echo "${on_host[*]}")"
unpack_sid "$work/host"
settle_host "$work/host"
rm -rf "$work/debootstrap" "$work/debootstrap.log"
made
