/** What a host is prepared with: the values of `infra/host/prepare-host.sh`. None of them is a secret. */
export interface HostValues {
  gpu: "auto" | "require" | "none";
  deployUser: string;
  /** Public keys that may log in as that user. */
  authorizedKeys: readonly string[];
  servicePorts: readonly number[];
  /** Networks of the app. */
  app: readonly string[];
  /** Networks that SSH is allowed from. */
  operators: readonly string[];
  /** Asked for again when it changes. */
  revision: string;
  /** Bases of package repositories instead of the projects' own; null for those. */
  mirrors: { docker: string | null; toolkit: string | null; driver: string | null };
}

/** Lines `KEY=value`, the last one with how many there are, so that a list that was cut off on its way is refused. */
export function hostValuesFile(values: HostValues): string {
  const lines = [
    `GPUCTL_GPU=${values.gpu}`,
    `GPUCTL_DEPLOY_USER=${values.deployUser}`,
    ...values.authorizedKeys.map((key) => `GPUCTL_AUTHORIZED_KEY=${key}`),
    `GPUCTL_SERVICE_PORTS=${values.servicePorts.join(",")}`,
    `GPUCTL_APP_ADDRESSES=${values.app.join(",")}`,
    `GPUCTL_SSH_ADDRESSES=${values.operators.join(",")}`,
    // A restart is ours to make: whoever waits for the host has to be told before it begins.
    "GPUCTL_REBOOT=no",
    `GPUCTL_REVISION=${values.revision}`,
  ];
  for (const [name, base] of Object.entries(values.mirrors)) {
    if (base !== null) lines.push(`GPUCTL_${name.toUpperCase()}_REPOSITORY=${base}`);
  }
  const broken = lines.find((line) => /[\r\n\0]/.test(line));
  if (broken !== undefined) throw new RangeError(`a value of a host has more than one line: ${JSON.stringify(broken)}`);
  return `${[...lines, `GPUCTL_VALUES=${lines.length}`].join("\n")}\n`;
}
