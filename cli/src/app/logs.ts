import { UsageError } from "../domain/errors.js";
import { serviceNames, type ServiceName } from "../domain/names.js";
import type { Context, LogLine } from "../ports.js";

export interface LogsRequest {
  service: string | undefined;
  lines: number;
  follow: boolean;
}

/** The last lines of the services' logs, and with `follow` every further one until the signal. */
export function logs(ctx: Context, request: LogsRequest): AsyncIterable<LogLine> {
  const { lines, follow } = request;
  return ctx.driver.logs(servicesOf(request.service), { lines, follow }, ctx.signal);
}

function servicesOf(name: string | undefined): readonly ServiceName[] {
  if (name === undefined) return serviceNames;
  const found = serviceNames.filter((service) => service === name);
  if (found.length > 0) return found;
  throw new UsageError(`there is no service ${name}`, {
    because: `services are ${serviceNames.join(", ")}`,
    nextSteps: ["gpuctl logs"],
  });
}
