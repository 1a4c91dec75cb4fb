#!/usr/bin/env bash
# PID 1 of a bed, in mount, network and process namespaces of its own: the bridge that its hosts hang on. When it ends, the kernel ends
# every process of the bed, and mounts, interfaces and firewall rules go with their namespaces. It ends when its stdin does, so that a
# bed never outlives the tests, however they die.
set -euo pipefail

ip link set lo up
ip link add bed type bridge
ip link set bed up
echo ready
read -r _ || true
