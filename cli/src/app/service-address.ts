import { ConfigInvalid, PreflightRefused } from "../domain/errors.js";
import { configuredEndpoints, type Endpoint } from "../domain/endpoints.js";
import type { ServiceName } from "../domain/names.js";
import type { Context } from "../ports.js";

/** Where a service is asked over its public socket, and what has to be sent along. */
export interface ServiceAddress {
  /** `http://host:port` */
  base: string;
  headers: Readonly<Record<string, string>>;
}

/** What the way to a service takes. */
export type Reaching = Pick<Context, "config" | "secrets" | "tunnelTo">;

/** The public address of a service of this environment, on its first node, with a key when the service asks for one. */
export async function serviceAddress(ctx: Reaching, service: ServiceName): Promise<ServiceAddress> {
  const { base, headers } = await serviceWay(ctx, service);
  return { base, headers };
}

/** The same, and what there is between here and the service. */
export async function serviceWay(ctx: Reaching, service: ServiceName): Promise<ServiceAddress & { endpoint: Endpoint }> {
  const { config, secrets } = ctx;
  const configured = config.services[service];
  const [endpoint] = configuredEndpoints(config, service);
  if (configured === undefined || endpoint === undefined) {
    throw new ConfigInvalid(`environment ${config.environment} has no ${service}`, {
      because: "it is not among its services in gpuctl.yaml",
      nextSteps: [`add \`${service}\` under \`services\` in ${config.projectFile}`, "gpuctl config view"],
    });
  }
  const keys = configured.secrets["API_KEYS"];
  const key = keys === undefined ? undefined : firstKey(await secrets.read("API_KEYS", keys));
  const headers: Record<string, string> = key === undefined ? {} : { authorization: `Bearer ${key}` };
  return { base: await baseOf(ctx, service, endpoint), headers, endpoint };
}

/** Whether only a tunnel leads from this machine to an address. */
export const needsTunnel = ({ loopback, thisMachine }: Endpoint): boolean => loopback && !thisMachine;

/** The address by which this machine reaches an endpoint: its own, or that of a tunnel which ends with the command. */
export async function baseOf(ctx: Pick<Context, "tunnelTo">, service: ServiceName, endpoint: Endpoint): Promise<string> {
  const { node, url, port } = endpoint;
  if (!needsTunnel(endpoint)) return url;
  if (url.startsWith("https:") || node === null || ctx.tunnelTo === undefined)
    throw new PreflightRefused(`the ${service} of ${node ?? "this environment"} cannot be asked from here`, {
      because: `it answers on ${url} of its node only, and its certificate is not one for a tunnel`,
      nextSteps: [`in gpuctl.yaml, for ${node ?? "the node"}: bind: an address that this machine reaches`],
    });
  return ctx.tunnelTo(node, port);
}

const firstKey = (secret: string): string | undefined =>
  secret
    .split("\n")
    .map((line) => line.trim())
    .find((line) => line !== "");
