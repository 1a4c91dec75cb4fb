#!/usr/bin/env bash
# packages.sh CACHE HOST: repositories such as a host installs from, made once. Prints the folder that holds them.
#
#   archive/  the distribution's own: Debian's real ufw; stand-ins for the driver, its modules and the kernel's headers
#   docker/   Docker's: debian/ and ubuntu/, with a stand-in for the engine that answers as Docker does
#   engine/   the same with Debian's real engine, client, containerd, Compose and buildx of the bed
#   toolkit/  NVIDIA's container toolkit, a stand-in;  driver/  NVIDIA's own repository for Debian, a stand-in
#   newer/    archive/ and driver/ at a later time
#
# apt and dpkg are real, and so are signatures: all but `archive` are signed by a key that the host has to fetch.
# HOST is the root file system of the bed's hosts.
set -euo pipefail

cache=$1/bed host=$2
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=../made-once.sh
. "$here/../made-once.sh"
made_once "$cache/host-packages-" "$0" "$here"/contents/*
mkdir -p "$work/gpg"
chmod 700 "$work/gpg"
export GNUPGHOME=$work/gpg
gpg --batch --quiet --passphrase '' --quick-generate-key 'host-bed' rsa3072 sign never 2>/dev/null

# package FOLDER NAME VERSION DEPENDS [FILE=TARGET...]: a .deb; FILE is one of contents/, or a path
package() {
  local folder=$1 name=$2 version=$3 depends=$4 root=$work/root each
  shift 4
  rm -rf "$root"
  mkdir -p "$root/DEBIAN" "$folder"
  for each in "$@"; do
    case $each in
      postinst=* | prerm=*) install -m 0755 "$here/contents/${each#*=}" "$root/DEBIAN/${each%%=*}" ;;
      text:*) each=${each#text:}; mkdir -p "$root$(dirname "${each#*=}")"; echo "${each%%=*}" >"$root${each#*=}" ;;
      /*) mkdir -p "$root$(dirname "${each#*=}")"; cp -a "${each%%=*}" "$root${each#*=}" ;;
      *) install -D -m 0755 "$here/contents/${each%%=*}" "$root${each#*=}" ;;
    esac
  done
  printf 'Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: nobody <nobody@example.org>\nDescription: of the test bed\n' \
    "$name" "$version" >"$root/DEBIAN/control"
  [[ -z $depends ]] || printf 'Depends: %s\n' "$depends" >>"$root/DEBIAN/control"
  dpkg-deb --root-owner-group -Znone --build "$root" "$folder/${name}_${version//:/%3a}_amd64.deb" >/dev/null
}

# index FOLDER PREFIX >Packages: every .deb in it, its name counted from the repository's base
index() {
  local deb
  for deb in "$1"/*.deb; do
    dpkg-deb -f "$deb"
    printf 'Filename: %s%s\nSize: %s\nSHA256: %s\n\n' "$2" "$(basename "$deb")" "$(stat -c %s "$deb")" "$(sha256sum <"$deb" | cut -d' ' -f1)"
  done
}

# release FOLDER SUITE COMPONENT: signs what is below it
release() {
  local file
  {
    printf 'Origin: host-bed\nSuite: %s\nCodename: %s\nComponents: %s\nArchitectures: amd64\nDate: %s\nSHA256:\n' "$2" "$2" "$3" "$(date -Ru)"
    (cd "$1" && find . -name Packages -printf '%P\n' | while read -r file; do
      printf ' %s %s %s\n' "$(sha256sum <"$file" | cut -d' ' -f1)" "$(stat -c %s "$file")" "$file"
    done)
  } >"$1/Release"
  gpg --batch --quiet --clearsign -o "$1/InRelease" "$1/Release"
}

flat() { # flat FOLDER: a repository without suites
  index "$1" ./ >"$1/Packages"
  release "$1" / ''
}

# suites BASE POOL SUITE...: a repository as Docker's, over one pool
suites() {
  local base=$1 pool=$2 suite
  shift 2
  for suite in "$@"; do
    mkdir -p "$base/dists/$suite/stable/binary-amd64"
    index "$pool" pool/ >"$base/dists/$suite/stable/binary-amd64/Packages"
    release "$base/dists/$suite" "$suite" stable
  done
  cp -al "$pool" "$base/pool"
  gpg --batch --armor --export >"$base/gpg"
}

driver_packages() { # driver_packages VERSION KERNEL-ABI
  local version=$1 abi=$2 archive=$work/archive branch=580-server release
  release=$abi-generic
  package "$archive" "linux-modules-nvidia-$branch-open-$release" "$version" '' "text:$version=/usr/lib/stand-in/modules/$release"
  package "$archive" "linux-modules-nvidia-$branch-open-generic" "$version" "linux-modules-nvidia-$branch-open-$release"
  package "$archive" "linux-headers-$release" 1 ''
  package "$archive" linux-image-generic "$abi" ''
  package "$archive" "nvidia-headless-no-dkms-$branch-open" "$version" ''
  package "$archive" "nvidia-dkms-$branch-open" "$version" '' postinst=dkms-postinst "text:$version=/usr/lib/stand-in/dkms-source"
  package "$archive" "nvidia-headless-$branch-open" "$version" "nvidia-dkms-$branch-open"
  package "$archive" "nvidia-utils-$branch" "$version" '' nvidia-smi=/usr/bin/nvidia-smi "text:$version=/usr/lib/stand-in/library"
  package "$archive" "nvidia-compute-utils-$branch" "$version" '' nvidia-persistenced=/usr/bin/nvidia-persistenced persistenced.service=/usr/lib/systemd/system/nvidia-persistenced.service
}

driver_packages 580.95.05-1 6.8.0-90
package "$work/archive" linux-headers-6.12.48+deb13-amd64 1 ''
package "$work/archive" linux-headers-6.1.0-40-amd64 1 ''
package "$work/archive" linux-headers-6.5.0-1-custom 1 ''
package "$work/archive" docker.io 26.1.5 ''
# Ubuntu's kernels for newer hardware, on servers and on virtual machines, have a meta-package of their own for the modules.
for system in 22.04 24.04; do
  package "$work/archive" "linux-image-generic-hwe-$system" 6.14.0-37 ''
  package "$work/archive" "linux-image-virtual-hwe-$system" 6.14.0-37 ''
  package "$work/archive" "linux-modules-nvidia-580-server-open-generic-hwe-$system" 580.95.05-1 linux-modules-nvidia-580-server-open-6.14.0-37-generic
done
package "$work/archive" linux-modules-nvidia-580-server-open-6.14.0-37-generic 580.95.05-1 '' text:580.95.05=/usr/lib/stand-in/modules/6.14.0-37-generic
apt_home=$cache/apt-trixie
(cd "$work/archive" && apt-get -qq -o Dir::Etc::SourceList="$apt_home/sources.list" -o Dir::Etc::SourceParts="$apt_home/empty" \
  -o Dir::Etc::PreferencesParts="$apt_home/empty" -o Dir::State="$apt_home" -o Dir::State::Lists="$apt_home/lists" -o Dir::State::Status=/dev/null \
  -o Dir::Cache="$apt_home" -o APT::Sandbox::User=root download ufw ucf >&2)
flat "$work/archive"
mkdir -p "$work/newer"
saved=$work/archive
mv "$work/archive" "$work/older"
driver_packages 580.105.08-1 6.8.0-95
flat "$work/archive"
mv "$work/archive" "$work/newer/archive"
mv "$work/older" "$saved"

for name in docker-ce docker-ce-cli containerd.io docker-buildx-plugin docker-compose-plugin; do
  files=()
  case $name in
    docker-ce) files=(dockerd=/usr/bin/dockerd docker-postinst=/usr/lib/stand-in/docker-postinst postinst=docker-postinst docker.service=/usr/lib/systemd/system/docker.service) ;;
    docker-ce-cli) files=(docker=/usr/bin/docker) ;;
  esac
  package "$work/docker-pool" "$name" 5:28.5.2-1 '' "${files[@]}"
done
mkdir -p "$work"/docker/{debian,ubuntu} "$work/engine/debian"
suites "$work/docker/debian" "$work/docker-pool" bookworm trixie
suites "$work/docker/ubuntu" "$work/docker-pool" jammy noble resolute

engine=$work/engine-pool
package "$engine" docker-ce 5:28.5.2-1 docker-ce-cli,containerd.io "$host/usr/sbin/dockerd=/usr/bin/dockerd" "$host/usr/sbin/docker-proxy=/usr/bin/docker-proxy" \
  "$host/usr/bin/docker-init=/usr/bin/docker-init" postinst=docker-postinst docker.service=/usr/lib/systemd/system/docker.service
package "$engine" docker-ce-cli 5:28.5.2-1 '' "$host/usr/bin/docker=/usr/bin/docker"
package "$engine" containerd.io 2.1.9-1 '' "$host/usr/bin/containerd=/usr/bin/containerd" "$host/usr/bin/containerd-shim-runc-v2=/usr/bin/containerd-shim-runc-v2"
package "$engine" docker-buildx-plugin 0.29.1-1 '' "$host/usr/libexec/docker/cli-plugins/docker-buildx=/usr/libexec/docker/cli-plugins/docker-buildx"
package "$engine" docker-compose-plugin 2.40.3-1 '' "$host/usr/libexec/docker/cli-plugins/docker-compose=/usr/libexec/docker/cli-plugins/docker-compose"
suites "$work/engine/debian" "$engine" trixie

toolkit=$work/toolkit/stable/deb/amd64
# A newer one than the one that is pinned, which nobody must get by chance.
for version in 1.20.0-1 1.21.0-1; do
  package "$toolkit" nvidia-container-toolkit "$version" ''
  package "$toolkit" nvidia-container-toolkit-base "$version" '' nvidia-ctk=/usr/bin/nvidia-ctk cdi-refresh.service=/usr/lib/systemd/system/nvidia-cdi-refresh.service
  package "$toolkit" libnvidia-container-tools "$version" ''
  package "$toolkit" libnvidia-container1 "$version" ''
done
flat "$toolkit"
gpg --batch --armor --export >"$work/toolkit/gpgkey"

debian_driver() { # debian_driver FOLDER VERSION
  local folder=$1 version=$2
  package "$folder" nvidia-driver-pinning-580 580 ''
  package "$folder" nvidia-kernel-open-dkms "$version-1" '' postinst=dkms-postinst "text:$version=/usr/lib/stand-in/dkms-source"
  package "$folder" nvidia-driver-cuda "$version-1" nvidia-kernel-open-dkms nvidia-smi=/usr/bin/nvidia-smi "text:$version=/usr/lib/stand-in/library" \
    nvidia-persistenced=/usr/bin/nvidia-persistenced persistenced.service=/usr/lib/systemd/system/nvidia-persistenced.service
  flat "$folder"
  gpg --batch --export >"$folder/cuda-archive-keyring.gpg"
}

for system in debian12 debian13; do
  debian_driver "$work/driver/$system/x86_64" 580.95.05
  debian_driver "$work/newer/driver/$system/x86_64" 580.105.08
done

rm -rf "$work"/{gpg,root,docker-pool,engine-pool}
chmod -R a+rX "$work"
made
