import { instanceOf } from "../domain/drift.js";
import { ConfigInvalid, Failed, UsageError } from "../domain/errors.js";
import { inOrder } from "../domain/fingerprint.js";
import { currentRelease, findRelease } from "../domain/history.js";
import type { InstanceId, ServiceName } from "../domain/names.js";
import type { Context, NodeTarget } from "../ports.js";

export interface ExecRequest {
  service: string;
  /** Only on these nodes; on all that run the service when not given. */
  hosts: readonly string[] | undefined;
  /** Release whose instance is meant; the one in service when not given. */
  release: string | undefined;
  command: readonly [string, ...string[]];
}

/** One line that the command printed on a node. */
export interface ExecLine {
  node: string;
  stream: "stdout" | "stderr";
  text: string;
}

export interface ExecResult {
  environment: string;
  instance: InstanceId;
  /** In the order of the nodes. `code` is 128 + n when signal n ended the command. */
  runs: readonly { node: string; code: number }[];
  /** Status of the first run that failed, else 0. */
  code: number;
}

/** Runs a command inside a service's instance on its nodes, on all at once; the lines of several nodes arrive as they come. */
export async function exec(
  ctx: Context,
  request: ExecRequest,
  onLine: (line: ExecLine, several: boolean) => void,
): Promise<ExecResult> {
  const { service, instance } = await instanceFor(ctx, request);
  const nodes = nodesFor(ctx, service, request.hosts);
  const one = async ({ node, driver }: NodeTarget): Promise<ExecResult["runs"][number]> => {
    if (driver.exec === undefined) throw noContainers(ctx);
    const tell = (text: string, stream: ExecLine["stream"]): void => onLine({ node, stream, text }, nodes.length > 1);
    return { node, code: await driver.exec(instance, request.command, { signal: ctx.signal, onLine: tell }) };
  };
  const ended = await Promise.allSettled(nodes.map(one));
  const runs = ended.map((each) => {
    if (each.status === "rejected") throw each.reason;
    return each.value;
  });
  const code = runs.find((run) => run.code !== 0)?.code ?? 0;
  return { environment: ctx.config.environment, instance, runs, code };
}

async function instanceFor(ctx: Context, request: ExecRequest): Promise<{ service: ServiceName; instance: InstanceId }> {
  const { records } = await ctx.releases.list();
  const release = request.release === undefined ? currentRelease(records) : findRelease(records, request.release);
  if (release === null)
    throw new Failed(`nothing runs in environment ${ctx.config.environment}`, {
      because: "no release is in service",
      nextSteps: ["gpuctl deploy"],
    });
  const found = inOrder(release.services).find(([service]) => service === request.service);
  if (found !== undefined) return { service: found[0], instance: instanceOf(found[1]) };
  throw new UsageError(`there is no service ${request.service} in ${release.id}`, {
    because: `its services are ${inOrder(release.services)
      .map(([service]) => service)
      .join(", ")}`,
    nextSteps: ["gpuctl status"],
  });
}

function nodesFor(ctx: Context, service: ServiceName, wanted: readonly string[] | undefined): readonly NodeTarget[] {
  const nodes = ctx.driver.nodesOf?.(service);
  if (nodes === undefined) throw noContainers(ctx);
  const unknown = wanted?.find((name) => !nodes.some(({ node }) => node === name));
  if (unknown !== undefined)
    throw new UsageError(`${service} does not run on ${unknown}`, {
      because: `its nodes are ${nodes.map(({ node }) => node).join(", ")}`,
      nextSteps: ["gpuctl status"],
    });
  return nodes.filter(({ node }) => wanted?.includes(node) ?? true);
}

const noContainers = ({ config }: Context): ConfigInvalid =>
  new ConfigInvalid(`environment ${config.environment} has no containers to run a command in`, {
    because: `its target is ${config.target}: the services are processes of this machine`,
    nextSteps: ["run the command here; gpuctl status names the processes", "gpuctl exec -e NAME, with an environment on hosts"],
  });
