#!/usr/bin/env bash
# PID 1 of a host, inside its root file system: network, sshd, Docker. What ends is started again, as systemd would.
set -uo pipefail

ip link set lo up
until ip link show eth0 >/dev/null 2>&1; do sleep 0.02; done
ip address add "$ADDRESS" dev eth0
ip link set eth0 up
# No default route: what a host needs from outside it has to be given, as a proxy or from the registry of the bed.
echo 1 >/proc/sys/net/ipv4/ip_forward

# daemon PIDFILE-OF-A-STOP COMMAND...: runs it for ever, but not while /run/stopped/NAME exists.
mkdir -p /run/stopped
daemon() {
  local name=$1
  shift
  while :; do
    if [[ -e /run/stopped/$name ]]; then sleep 0.05; continue; fi
    "$@" >>"/var/log/$name.log" 2>&1
    sleep 0.1
  done
}

docker_engine() {
  # What a power cut leaves is in /run, and that is new.
  exec dockerd --host unix:///run/docker.sock --exec-root /run/docker --pidfile /run/docker.pid --log-level warn
}

mkdir -p /etc/docker
[[ -e /etc/docker/daemon.json ]] || cat >/etc/docker/daemon.json <<CONFIG
{
  "data-root": "/var/lib/docker",
  "cgroup-parent": "$CGROUP",
  "exec-opts": ["native.cgroupdriver=cgroupfs"],
  "cdi-spec-dirs": ["/etc/cdi"],
  "insecure-registries": ["198.18.0.0/15"],
  "default-address-pools": [{ "base": "172.31.0.0/16", "size": 24 }]
}
CONFIG

touch /run/bed-booted
daemon sshd /usr/sbin/sshd -D -e &
daemon docker bash -c "$(declare -f docker_engine); docker_engine" &
# bash reaps whatever is left to it; this waits for nothing in particular.
while :; do wait; sleep 1; done
