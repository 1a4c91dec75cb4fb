import type { DoctorFinding } from "../../../domain/doctor/finding.js";
import type { NodeFacts } from "../../../domain/preflight/facts.js";
import { judgeNode } from "../../../domain/preflight/judge.js";
import { settleDevices, wantsGpu, type NodeNeeds, type ServiceNeeds } from "../../../domain/preflight/needs.js";
import { modelsOf, type ServiceSpec } from "../../../domain/release.js";
import type { Finding } from "../../../ports.js";
import { deliveriesOf, sumOf, type DeliveryParts } from "./deliveries.js";
import { lastLines } from "./docker-errors.js";
import { needsOf, type GpuTrials, type NodeLook } from "./gpu-trials.js";
import type { HostCommands } from "./host-commands.js";
import { here, onNode } from "./node-finding.js";
import { instancesOf, type KeptNode } from "./node-plan.js";
import type { HostView } from "./observation.js";

export interface PreflightParts extends DeliveryParts {
  look: NodeLook;
  trials: GpuTrials;
  /** CDI name of the GPU that a service would be given; null for a CPU. */
  gpuOf(spec: ServiceSpec): Promise<string | null>;
  view(): Promise<HostView>;
  /** What is to run on the host now. */
  kept(): Promise<KeptNode>;
}

/**
 * What stands in the way of starting these specs on a host: everything that `gpuctl doctor` says of it, whether a container with the
 * GPU starts now, and what is still to be delivered. Where nothing is started the GPU is not looked at: a switch back to what runs
 * anyway must stay possible, and quick.
 */
export async function hostPreflight(
  parts: PreflightParts,
  specs: readonly ServiceSpec[],
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const { commands, look } = parts;
  if (specs.length === 0) return lightly(parts);
  const facts = await look.facts();
  const reachable = facts.docker.state === "reachable";
  const deliveries = reachable
    ? await deliveriesOf(parts, specs, facts)
    : { imageBytes: 0, sentBytes: 0, modelBytes: 0, findings: [] };
  const { findings: delivered, ...load } = deliveries;
  const needs: NodeNeeds = { ...look.needs, services: await Promise.all(specs.map((spec) => wishOf(parts, spec))), ...load };
  const tried = reachable ? await parts.trials.inPreflight(specs, facts, signal) : [];
  const judged = [...judgeNode(facts, needs).map((finding) => clockOf(finding, load.imageBytes)), ...tried];
  const lost = reachable ? await gpusLost(parts, specs, facts, judged) : [];
  const unwritable = judged.some(({ code }) => code === "data-not-writable");
  const own = [...lost, ...delivered, ...(unwritable ? [] : [await state(commands)])];
  return [...judged.map((finding) => onNode(commands.node, finding)), ...own];
}

/** What a spec wants, with the size of the models that it loads. */
async function wishOf({ look, models }: PreflightParts, spec: ServiceSpec): Promise<ServiceNeeds> {
  const sizes = await Promise.all(modelsOf(spec).map(async (ref) => (await models.find(ref))?.bytes ?? null));
  return { ...needsOf(look.needs, spec), modelBytes: sumOf(sizes) };
}

/** Only registries refuse a wrong clock: where nothing is fetched it must not keep a release from coming back. */
const clockOf = (finding: DoctorFinding, imageBytes: number | null): DoctorFinding =>
  finding.code === "clock-wrong" && imageBytes === 0 ? { ...finding, level: "warning" } : finding;

async function lightly(parts: PreflightParts): Promise<readonly Finding[]> {
  const { silent } = await parts.view();
  return silent === null ? [await state(parts.commands)] : [engineSilent(parts.commands.node, silent)];
}

const engineSilent = (node: string, said: string): Finding => ({
  level: "blocker",
  code: "docker-silent",
  what: `Docker on ${node} does not answer`,
  because: said,
  nextSteps: [`systemctl status docker   # on ${node}`, "gpuctl doctor"],
});

/** Services that may run on a CPU and are on a GPU: their successor must not go to the CPU because the driver is half upgraded. */
async function gpusLost(
  parts: PreflightParts,
  specs: readonly ServiceSpec[],
  facts: NodeFacts,
  judged: readonly DoctorFinding[],
): Promise<readonly Finding[]> {
  const { commands, look } = parts;
  if (judged.some(({ group, level }) => group === "GPU" && level === "blocker")) return [];
  const running = instancesOf(await parts.kept());
  const trouble = judged.find(({ group, level }) => group === "GPU" && level === "warning");
  const findings: Finding[] = [];
  for (const spec of specs) {
    const { service } = spec;
    const wants = settleDevices({ ...look.needs, services: [needsOf(look.needs, spec)] }, facts).services.some(wantsGpu);
    const onGpu = running.some((instance) => instance.service === service && instance.gpu !== null);
    if (wants && onGpu && (await parts.gpuOf(spec)) === null) findings.push(gpuLost(commands.node, service, trouble));
  }
  return findings;
}

const gpuLost = (node: string, service: string, trouble: DoctorFinding | undefined): Finding => ({
  level: "blocker",
  code: "gpu-lost",
  what: `${service} runs on a GPU of ${node}, and its successor could not`,
  because: trouble === undefined ? "no GPU can be given to a container now" : `${trouble.what}: ${trouble.because ?? ""}`,
  nextSteps: [...(trouble?.nextSteps ?? []).map((step) => here(node, step)), "or in gpuctl.yaml, for the service: device: cpu"],
});

/** Arguments: DIRECTORY. Makes nothing: the nearest directory that exists says it. */
const writable = `d=$1; while [ ! -e "$d" ]; do d=$(dirname "$d"); done
if [ -d "$d" ] && [ -w "$d" ]; then exit 0; fi; echo "$d cannot be written by $(id -un)" >&2; exit 1`;

async function state(commands: HostCommands): Promise<Finding> {
  const { code, stderr } = await commands.attempt({ argv: ["sh", "-c", writable, "gpuctl", commands.root] });
  const what = `${commands.root} on ${commands.node}`;
  if (code === 0) return { level: "ok", code: "state-writable", what: `${what} can be written` };
  return {
    level: "blocker",
    code: "state-not-writable",
    what: `${what} cannot be written`,
    because: lastLines(stderr),
    nextSteps: [`log in as root on ${commands.node}`, "gpuctl doctor"],
  };
}
