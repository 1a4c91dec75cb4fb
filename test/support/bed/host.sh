#!/usr/bin/env bash
# Makes the root file system of one host, and becomes its PID 1. In fresh mount, network, process, IPC and host name namespaces.
#
#   BASE   root file system of every host, read only       DISK    what this host keeps over restarts
#   NAME   host name       ADDRESS   its address/prefix    CGROUP  parent of its containers' control groups
#   GPU    kernel module's version, empty without GPUs     DOCKER_MIB  size of Docker's own disk, empty for none
set -euo pipefail

root=$DISK/root
mount --make-rprivate /
mkdir -p "$DISK"/{root,upper,work,docker}
mount -t overlay overlay -o "lowerdir=$BASE,upperdir=$DISK/upper,workdir=$DISK/work" "$root"
mount -t proc proc "$root/proc"
# Of this network namespace; control groups are the machine's.
mount -t sysfs sysfs "$root/sys"
mount --rbind /sys/fs/cgroup "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=0755,size=256m tmpfs "$root/run"
mkdir -p "$root"/run/{sshd,lock}

mount -t tmpfs -o mode=0755,size=1m tmpfs "$root/dev"
mkdir "$root"/dev/{pts,shm}
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777,size=64m tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for n in 0 1 2; do ln -s "/proc/self/fd/$n" "$root/dev/$(echo stdin stdout stderr | cut -d' ' -f$((n + 1)))"; done
device() { mknod -m 0666 "$root/dev/$1" c "$2" "$3"; }
device null 1 3; device zero 1 5; device full 1 7; device random 1 8; device urandom 1 9; device tty 5 0

# overlay2 needs a plain file system below it. A disk of its own can be filled without hurting the machine.
mkdir -p "$root/var/lib/docker"
if [[ -n $DOCKER_MIB ]]; then
  if [[ ! -e $DISK/docker.ext4 ]]; then
    truncate -s "${DOCKER_MIB}M" "$DISK/docker.ext4"
    mkfs.ext4 -q -m 0 -O ^has_journal "$DISK/docker.ext4"
  fi
  mount -o loop "$DISK/docker.ext4" "$root/var/lib/docker"
else
  mount --bind "$DISK/docker" "$root/var/lib/docker"
fi

# Every start is another boot, although the kernel is the same.
cat /proc/sys/kernel/random/uuid >"$root/run/boot_id"
mount --bind "$root/run/boot_id" "$root/proc/sys/kernel/random/boot_id"

if [[ -n $GPU ]]; then
  mkdir -p "$root/var/lib/gpu"
  mount --bind "$DISK/gpu" "$root/var/lib/gpu"
  # Some kernels have no such folder, and nobody can make one.
  if [[ -d $root/proc/driver ]]; then
    mount -t tmpfs -o mode=0755,size=64k tmpfs "$root/proc/driver"
    mkdir "$root/proc/driver/nvidia"
    echo "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  $GPU  Release Build" >"$root/proc/driver/nvidia/version"
  fi
  device nvidiactl 1 3
  for ((n = 0; n < $(cat "$DISK/gpu/count"); n++)); do device "nvidia$n" 1 3; done
fi

cp "$(dirname "$0")/init.sh" "$root/run/init"
hostname "$NAME"
cd "$root"
mkdir -p .machine
pivot_root . .machine
umount -l /.machine
rmdir /.machine
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
  ADDRESS="$ADDRESS" CGROUP="$CGROUP" /bin/bash /run/init
