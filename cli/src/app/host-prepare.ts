import { changedSteps, followLog, lastSaid } from "./host-log.js";
import { askedFrom, ingressAddressOf, ingressPort, type ComposeSettings } from "../domain/compose/node-settings.js";
import type { EnvironmentConfig } from "../domain/config/resolved.js";
import { Failed, GpuctlError, PreflightRefused, TargetUnreachable, UsageError } from "../domain/errors.js";
import { readResult, type HostResult } from "../domain/host/result.js";
import { valuesText, type AskedValues, type HostValues } from "../domain/host/values.js";
import { parseNetwork } from "../domain/preflight/network.js";
import { ms, type Milliseconds } from "../domain/units.js";
import type { Clock, Progress } from "../ports.js";
import type { HostPreparer, TextFiles } from "../ports/host-preparer.js";

export interface HostContext {
  config: EnvironmentConfig;
  preparer: HostPreparer;
  files: TextFiles;
  clock: Clock;
  progress: Progress;
  signal: AbortSignal;
}

/** What a person chose; what is left out comes from the environment. */
export interface PrepareRequest {
  node: string;
  mode: "prepare" | "upgrade";
  /** The node's name, to agree to what ends releases that serve there. */
  confirm: string | undefined;
  gpu: HostValues["gpu"] | undefined;
  deployUser: string | undefined;
  /** Files with public keys. */
  authorizedKeys: readonly string[];
  /** Null: those of the environment, else what the host was told before; empty takes that back. */
  appAddresses: readonly string[] | null;
  /** Null: what the host was told before; empty takes that back. */
  sshAddresses: readonly string[] | null;
  reboot: boolean;
  repositories: HostValues["repositories"];
  /** How long the host may take to come back, after a restart or a lost connection. */
  patience: Milliseconds;
}

export interface PrepareResult {
  node: string;
  state: HostResult["state"];
  /** Steps that changed something, in the order in which they ran. */
  changed: readonly string[];
  restarted: boolean;
  result: HostResult;
}

const pollMs = 2000;

/** Prepares one host, or upgrades its driver set, and waits until that is verified: through a restart and through lost connections. */
export async function prepareHost(context: HostContext, request: PrepareRequest): Promise<PrepareResult> {
  const { config, preparer, progress, signal } = context;
  requireNode(config, request.node);
  const values = await valuesOf(context, request);
  const serving = await preparer.serving(request.node, signal);
  const agreed = request.confirm === request.node;
  const idle = serving?.length === 0;
  if (!idle && request.mode === "upgrade" && !agreed) throw stillServing(request.node, serving);
  const reboot = request.reboot && (idle || agreed);
  if (reboot !== request.reboot) {
    const why = serving === null ? `Docker on ${request.node} does not say what runs` : `releases serve on ${request.node}`;
    progress.emit({ kind: "warning", text: `${why}, so it is not restarted; with --confirm ${request.node} it may be` });
  }
  const boot = await preparer.bootId(request.node, ms(15_000), signal);
  const left = await preparer.result(request.node, signal);
  const log = followLog(progress);
  const code = await runThroughLoss(context, request, valuesText({ ...values, reboot }), log.onLine);
  const result = await resultAfter(context, request, { code, said: lastSaid(log.lines) }, { boot, left });
  const restarted = (await preparer.bootId(request.node, ms(15_000), signal)) !== boot;
  return { node: request.node, state: result.state, changed: changedSteps(log.lines), restarted, result };
}

/** The exit status; a connection that is lost is made anew, and the next run waits for the end of the one that goes on without us. */
async function runThroughLoss(
  context: HostContext,
  { node, mode, patience }: PrepareRequest,
  values: string,
  onLine: (line: string) => void,
): Promise<number> {
  const { preparer, progress, signal } = context;
  for (;;) {
    try {
      const { code, said } = await preparer.run(node, { mode, values, onLine }, signal);
      if (code !== null && code <= 4) return code;
      throw new Failed(`the preparation of ${node} did not come to its end`, {
        because: said === "" ? `it ended with ${code ?? "a signal"}` : said,
        nextSteps: [`gpuctl host prepare ${node}, which goes on where it was`],
      });
    } catch (error) {
      if (!(error instanceof TargetUnreachable)) throw error;
      progress.emit({
        kind: "step",
        text: `the connection to ${node} was lost (${error.because ?? error.message}); the work there goes on`,
      });
      await reachable(context, node, patience);
    }
  }
}

/** Waits until the host answers. Throws TargetUnreachable when it does not in time. */
async function reachable({ preparer, signal, clock }: HostContext, node: string, patience: Milliseconds): Promise<string> {
  const end = clock.monotonic() + patience;
  for (;;) {
    try {
      return await preparer.bootId(node, ms(15_000), signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof GpuctlError) || clock.monotonic() > end) throw error;
    }
    await clock.sleep(ms(pollMs), signal);
  }
}

/** How a run ended: its exit status, and what it said last. */
interface Ended {
  code: number;
  said: string | null;
}

/** How the host was before the run: its boot, and the result of an earlier run as text. */
interface Before {
  boot: string;
  left: string | null;
}

/** What the script left, once nothing is under way any more. Throws what it failed or refused with. */
async function resultAfter(context: HostContext, request: PrepareRequest, ended: Ended, before: Before): Promise<HostResult> {
  const { preparer, signal } = context;
  const { node } = request;
  const { code, said } = ended;
  if (code === 2) throw new UsageError(`${node} refuses the values`, { because: said ?? (await lastDetail(context, node)) });
  const text = await preparer.result(node, signal);
  let result = readResult(text ?? "");
  if (result === null || !belongs(result, code, text !== before.left)) throw await withoutResult(context, request, ended);
  if (result.state === "rebooting") result = await afterRestart(context, request, before.boot);
  if (result.state === "prepared" || result.state === "reboot-needed") return result;
  const details = {
    because: result.reason ?? `it ended at ${result.step}`,
    nextSteps: [...(result.nextStep === null ? [] : [result.nextStep]), `gpuctl host ${request.mode} ${node}`],
    data: { node, result },
  };
  if (result.state === "refused") throw new PreflightRefused(`${node} cannot be prepared, and nothing was changed`, details);
  throw new Failed(`${node} is not prepared: ${result.step} failed`, { ...details, lines: await tail(context, node) });
}

/** Whether a result is of the run that ended so: on a full disk, or where a run ends before its first step, an older one stays. */
function belongs({ state }: HostResult, code: number, fresh: boolean): boolean {
  if (code === 0) return state === "prepared";
  return fresh && (code === 4 || state === "failed" || state === "refused");
}

async function withoutResult(context: HostContext, { node, mode }: PrepareRequest, { code, said }: Ended): Promise<Failed> {
  return new Failed(`${node} has no result of its preparation, which ended with ${code}`, {
    because: said ?? (await lastDetail(context, node)),
    lines: await tail(context, node),
    nextSteps: [`gpuctl host ${mode} ${node}`],
  });
}

/** Waits for the next start of the host, and for what is verified after it. */
async function afterRestart(context: HostContext, { node, patience }: PrepareRequest, before: string): Promise<HostResult> {
  const { preparer, progress, signal, clock } = context;
  progress.emit({ kind: "step", text: `${node} is restarting` });
  const end = clock.monotonic() + patience;
  let back = false;
  while (clock.monotonic() < end) {
    const boot = await reachable(context, node, ms(Math.max(0, end - clock.monotonic())));
    if (boot !== before && !back) progress.emit({ kind: "step", text: `${node} is back, and verifies itself` });
    back ||= boot !== before;
    const result = back ? readResult((await preparer.result(node, signal)) ?? "") : null;
    if (result !== null && result.state !== "rebooting") return result;
    await clock.sleep(ms(pollMs), signal);
  }
  throw new Failed(back ? `${node} did not end its verification` : `${node} did not restart`, {
    because: `it had ${patience / 1000} s`,
    lines: await tail(context, node),
    nextSteps: [`gpuctl host verify ${node}`, `gpuctl host prepare ${node}`],
  });
}

const tail = ({ preparer, signal }: HostContext, node: string): Promise<readonly string[]> =>
  preparer.logTail(node, signal).catch(() => []);

async function lastDetail(context: HostContext, node: string): Promise<string> {
  return (await tail(context, node)).at(-1) ?? "its log is empty";
}

/** What the script is told: what was asked for, else what the environment says of the node; of the rest the host keeps what it has. */
async function valuesOf({ config, files }: HostContext, request: PrepareRequest): Promise<AskedValues> {
  const settings = config.targetSettings?.target === "compose" ? config.targetSettings : null;
  const services = Object.values(config.services).filter(({ nodes }) => nodes == null || nodes.includes(request.node));
  const user = settings?.nodes[request.node]?.user;
  const ingress = settings?.ingress?.node === request.node ? [ingressPort(settings)] : [];
  const ports = [...services.map(({ port }) => port), ...ingress];
  const allow = allowedOn(config, settings, request.node);
  const keys = await Promise.all(request.authorizedKeys.map((path) => files.read(path)));
  return {
    gpu: request.gpu ?? (services.some(({ device }) => device.require === "cuda") ? "require" : null),
    deployUser: request.deployUser ?? (user === undefined || user === "root" ? null : user),
    authorizedKeys: keys.flatMap(publicKeys),
    servicePorts: ports.length > 0 ? ports : null,
    appAddresses: request.appAddresses ?? (allow.length > 0 ? allow : null),
    sshAddresses: request.sshAddresses,
    reboot: request.reboot,
    revision: `${config.project}/${config.environment}`,
    repositories: request.repositories,
  };
}

/** Who may reach the services: `allow`, the ingress of another node, which asks on their behalf, and another node's index. */
function allowedOn(config: EnvironmentConfig, settings: ComposeSettings | null, node: string): readonly string[] {
  if (settings?.allow === undefined) return [];
  const addresses = [ingressAddressOf(config, settings, node) ?? [], askedFrom(config, settings, node)].flat();
  const networks = addresses.filter((address) => parseNetwork(address) !== null);
  return [...new Set([...settings.allow, ...networks.map((each) => `${each}/${each.includes(":") ? 128 : 32}`)])];
}

/** Keys of a file as `authorized_keys` and `.pub` files have them. */
function publicKeys(text: string): string[] {
  const lines = text.split(/\r?\n/).filter((line) => line !== "" && !line.startsWith("#"));
  if (lines.some((line) => line.includes("PRIVATE KEY")))
    throw new UsageError("a private key was given where a public one belongs", {
      nextSteps: ["--authorized-key the file that ends with .pub"],
    });
  return lines;
}

/** Throws UsageError for a name that the environment does not have. */
export function requireNode({ targetSettings, environment }: EnvironmentConfig, node: string): void {
  const names = targetSettings?.target === "compose" ? Object.keys(targetSettings.nodes) : [];
  if (names.includes(node)) return;
  throw new UsageError(`environment ${environment} has no node ${node}`, {
    because: names.length === 0 ? "it has no nodes yet" : `its nodes are ${names.join(", ")}`,
    nextSteps: [`gpuctl host add ${node} --host ADDRESS`],
  });
}

function stillServing(node: string, serving: readonly string[] | null): PreflightRefused {
  return new PreflightRefused(serving === null ? `nobody knows what serves on ${node}` : `releases serve on ${node}`, {
    because: `the driver would be changed and the host restarted under ${serving?.join(", ") ?? "whatever Docker, which does not answer, runs"}`,
    nextSteps: ["gpuctl destroy, or leave the node out of the next deploys", `gpuctl host upgrade ${node} --confirm ${node}`],
    data: { node, serving },
  });
}
