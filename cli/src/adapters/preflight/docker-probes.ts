import { docker, root, rootWithDocker, user } from "./probe.js";

/** Docker's client, engine, containers and the room that it has. */
export const dockerProbes = {
  "docker-path": user(5, 'tool=$(command -v docker) || exit 127; printf \'%s\\n\' "$tool"; readlink -f "$tool"'),
  "docker-version": docker(10, "docker version --format '{{json .}}'"),
  "docker-info": docker(15, "docker info --format '{{json .}}'"),
  // Field by field: with all of them Docker measures the size of every container first.
  "docker-ps": docker(
    15,
    `docker ps --no-trunc --format '{"ID":{{json .ID}},"Names":{{json .Names}},"Image":{{json .Image}},"Labels":{{json .Labels}},"Ports":{{json .Ports}}}'`,
  ),
  // With the containerd image store the images are not below Docker's own folder.
  "docker-disk": docker(
    15,
    `root=$(docker info --format '{{.DockerRootDir}}') || exit
for place in "$root" /var/lib/containerd; do
  [ -d "$place" ] || continue
  printf '%s\\n' "$place"
  df -Pk "$place" | tail -n 1
  df -Pi "$place" | tail -n 1
done`,
  ),
  "daemon-json": root(5, "cat /etc/docker/daemon.json"),
  compose: docker(10, "docker compose version --short"),
  // On a machine without an engine this would load kernel modules.
  "docker-user": rootWithDocker(10, "iptables -S DOCKER-USER"),
};
