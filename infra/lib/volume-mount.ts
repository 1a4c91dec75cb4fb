/**
 * Where a volume is mounted: `dataDirectory: /srv/gpuctl` in gpuctl.yaml puts models, index and records on it. Not
 * `/var/lib/gpuctl`, which holds the host's own state before any volume is there.
 */
export const mountPoint = "/srv/gpuctl";

/** The unit of the mount: systemd wants its name made of the path. */
export const mountUnitPath = "/etc/systemd/system/srv-gpuctl.mount";

/** Unit that mounts a volume of the provider. A server whose volume is missing starts all the same (`nofail`). */
export function mountUnit(device: string): string {
  if (!/^\/dev\/disk\/by-id\/[A-Za-z0-9_.-]+$/.test(device)) throw new RangeError(`${device} is no disk by its id`);
  return [
    "[Unit]",
    "Description=Volume of gpuctl",
    "Before=docker.service",
    "",
    "[Mount]",
    `What=${device}`,
    `Where=${mountPoint}`,
    "Type=ext4",
    "Options=defaults,nofail,discard,noatime",
    "",
    "[Install]",
    "WantedBy=local-fs.target",
    "",
  ].join("\n");
}
