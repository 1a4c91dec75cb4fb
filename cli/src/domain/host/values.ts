/** What the script that prepares hosts is told; it checks everything again itself. */
export interface HostValues {
  gpu: "auto" | "require" | "none";
  /** Account to deploy as; null for none. */
  deployUser: string | null;
  /** Public keys that may log in as that account, one line each. */
  authorizedKeys: readonly string[];
  servicePorts: readonly number[];
  /** Networks that reach the services. */
  appAddresses: readonly string[];
  /** Networks that reach SSH; empty leaves that as it is. */
  sshAddresses: readonly string[];
  reboot: boolean;
  /** For people: which configuration asked for it. */
  revision: string;
  /** Bases of mirrors; those that are left out are the vendors' own. */
  repositories: Readonly<Partial<Record<"docker" | "toolkit" | "driver", string>>>;
}

/**
 * Values as lines KEY=value for the script's stdin. The first says how many follow, so that a list that was cut off by a lost
 * connection is refused. Throws Error for a text that does not fit into a line.
 */
export function valuesText(values: HostValues): string {
  const { docker, toolkit, driver } = values.repositories;
  const lines: [string, string][] = [
    ["GPU", values.gpu],
    ...(values.deployUser === null ? [] : [["DEPLOY_USER", values.deployUser] as [string, string]]),
    ...values.authorizedKeys.map((key): [string, string] => ["AUTHORIZED_KEY", key]),
    ["SERVICE_PORTS", values.servicePorts.join(",")],
    ["APP_ADDRESSES", values.appAddresses.join(",")],
    ["SSH_ADDRESSES", values.sshAddresses.join(",")],
    ["REBOOT", values.reboot ? "yes" : "no"],
    ["REVISION", values.revision],
    ...repository("DOCKER", docker),
    ...repository("TOOLKIT", toolkit),
    ...repository("DRIVER", driver),
  ];
  const broken = lines.find(([, text]) => /[\r\n\0]/.test(text));
  if (broken !== undefined) throw new Error(`the value of ${broken[0]} has more than one line`);
  return [["VALUES", String(lines.length)], ...lines].map(([key, text]) => `GPUCTL_${key}=${text}\n`).join("");
}

function repository(name: string, base: string | undefined): [string, string][] {
  return base === undefined ? [] : [[`${name}_REPOSITORY`, base.replace(/\/+$/, "")]];
}
