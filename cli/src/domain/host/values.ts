/** What the script that prepares hosts is told; it checks everything again itself. */
export interface HostValues {
  gpu: "auto" | "require" | "none";
  /** Account to deploy as. */
  deployUser: string | null;
  /** Public keys that may log in as that account, one line each; none leaves those that it has. */
  authorizedKeys: readonly string[];
  servicePorts: readonly number[];
  /** Networks that reach the services; of an empty list the script makes no rule at all, of "nobody" one that lets none in. */
  appAddresses: readonly string[] | "nobody";
  /** Networks that reach SSH. */
  sshAddresses: readonly string[];
  reboot: boolean;
  /** For people: which configuration asked for it. */
  revision: string;
  /** Bases of mirrors instead of the vendors' own; an empty one takes a mirror back. */
  repositories: Readonly<Partial<Record<"docker" | "toolkit" | "driver", string>>>;
}

/** The same, of which what is null, and a mirror that is left out, stays as an earlier run was told; an empty list takes it back. */
export type AskedValues = Omit<HostValues, Nullable> & { [K in Nullable]: HostValues[K] | null };
type Nullable = "gpu" | "servicePorts" | "appAddresses" | "sshAddresses";

/**
 * Values as lines KEY=value for the script's stdin. The first says how many follow, so that a list that was cut off by a lost
 * connection is refused. Throws Error for a text that does not fit into a line.
 */
export function valuesText(values: AskedValues): string {
  const { docker, toolkit, driver } = values.repositories;
  const lines: [string, string][] = [
    ...named("GPU", values.gpu),
    ...named("DEPLOY_USER", values.deployUser),
    ...values.authorizedKeys.map((key): [string, string] => ["AUTHORIZED_KEY", key]),
    ...named("SERVICE_PORTS", values.servicePorts?.join(",")),
    ...named("APP_ADDRESSES", values.appAddresses === "nobody" ? "nobody" : values.appAddresses?.join(",")),
    ...named("SSH_ADDRESSES", values.sshAddresses?.join(",")),
    ["REBOOT", values.reboot ? "yes" : "no"],
    ["REVISION", values.revision],
    ...named("DOCKER_REPOSITORY", docker?.replace(/\/+$/, "")),
    ...named("TOOLKIT_REPOSITORY", toolkit?.replace(/\/+$/, "")),
    ...named("DRIVER_REPOSITORY", driver?.replace(/\/+$/, "")),
  ];
  const broken = lines.find(([, text]) => /[\r\n\0]/.test(text));
  if (broken !== undefined) throw new Error(`the value of ${broken[0]} has more than one line`);
  return [["VALUES", String(lines.length)], ...lines].map(([key, text]) => `GPUCTL_${key}=${text}\n`).join("");
}

function named(key: string, text: string | null | undefined): [string, string][] {
  return text == null ? [] : [[key, text]];
}
