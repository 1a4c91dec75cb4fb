import type { EnvironmentConfig } from "../domain/config/resolved.js";
import { ConfigInvalid } from "../domain/errors.js";
import type { ServiceName } from "../domain/names.js";
import type { SecretReader } from "../ports.js";

/** Where a service is asked over its public socket, and what has to be sent along. */
export interface ServiceAddress {
  /** `http://host:port` */
  base: string;
  headers: Readonly<Record<string, string>>;
}

/** The public address of a service of this environment, with a key when the service asks for one. */
export async function serviceAddress(
  config: EnvironmentConfig,
  service: ServiceName,
  secrets: SecretReader,
): Promise<ServiceAddress> {
  const configured = config.services[service];
  if (configured === undefined) {
    throw new ConfigInvalid(`environment ${config.environment} has no ${service}`, {
      because: "it is not among its services in gpuctl.yaml",
      nextSteps: [`add \`${service}\` under \`services\` in ${config.projectFile}`, "gpuctl config view"],
    });
  }
  const keys = configured.secrets["API_KEYS"];
  const key = keys === undefined ? undefined : firstKey(await secrets.read("API_KEYS", keys));
  const headers: Record<string, string> = key === undefined ? {} : { authorization: `Bearer ${key}` };
  return { base: `http://${urlHost(config.bind)}:${String(configured.port)}`, headers };
}

/** A wildcard address is bound, never called. */
function urlHost(bind: string): string {
  if (bind === "0.0.0.0") return "127.0.0.1";
  if (bind === "::") return "[::1]";
  return bind.includes(":") ? `[${bind}]` : bind;
}

const firstKey = (secret: string): string | undefined =>
  secret
    .split("\n")
    .map((line) => line.trim())
    .find((line) => line !== "");
