import { UsageError } from "../domain/errors.js";
import { cloudKinds, cloudKindName, priceOf, type CloudResource, type Price } from "../domain/cost/cloud.js";
import { knownAs, leftovers, type Leftover, type StackIds } from "../domain/infra/leftovers.js";
import { labelValue, madeByGpuctl } from "../domain/infra/labels.js";
import type { Clock } from "../ports.js";
import type { Hcloud } from "../ports/hcloud.js";
import { valueOf, type InfraTools } from "./infra-stack.js";

export interface GcRequest {
  /** Name in gpuctl.yaml; null without one. */
  project: string | null;
  /** Name of the project, as confirmation; nothing is deleted without it. */
  confirm: string | undefined;
  /** Stacks that are nowhere any more. */
  gone: readonly string[];
}

export interface GcRow extends Leftover {
  /** What it costs while it exists, net; null where the price list does not say. */
  price: Price | null;
  outcome: "deleted" | "listed" | "failed";
  /** Why it could not be deleted; null otherwise. */
  because: string | null;
}

export interface GcResult {
  project: string;
  stacks: readonly string[];
  currency: string;
  /** When the prices were read. */
  asOf: string;
  rows: readonly GcRow[];
  /** What the left-over ones cost, net. */
  monthly: number;
}

/** Finds what gpuctl made at the provider and no stack knows any more; deletes what was left behind when that is confirmed. */
export async function infraGc(tools: InfraTools & { hcloud: Hcloud; clock: Clock }, request: GcRequest): Promise<GcResult> {
  const { hcloud, clock, progress } = tools;
  progress.emit({ kind: "step", text: "asking the stacks what they know" });
  const { stacks, projects } = await stacksOf(tools, request);
  const project = request.project ?? [...projects][0];
  if (project === undefined)
    throw new UsageError("it is not clear which project is meant", {
      because: "there is no gpuctl.yaml, and no stack of this Pulumi project has made anything",
      nextSteps: ["cd to the folder with gpuctl.yaml", "--config FILE"],
    });
  requireName(request, project);
  progress.emit({ kind: "step", text: "asking the provider what there is" });
  const resources = (await Promise.all(cloudKinds.map((kind) => hcloud.list(kind, madeByGpuctl)))).flat();
  const prices = await hcloud.prices();
  const asOf = clock.now();
  const found = leftovers(resources, stacks, projects, new Set(request.gone.map(labelValue)), asOf);
  const rows: GcRow[] = [];
  for (const each of found) {
    const price = priceOf(each.resource, prices);
    const doomed = each.standing === "left-over" && request.confirm !== undefined;
    const ended = doomed ? await removed(tools, each.resource) : ({ outcome: "listed", because: null } as const);
    rows.push({ ...each, price, ...ended });
  }
  const left = rows.filter(({ standing, outcome }) => standing === "left-over" && outcome !== "deleted");
  return {
    project,
    stacks: stacks.map(({ stack }) => stack),
    currency: prices.currency,
    asOf: asOf.toISOString(),
    rows,
    monthly: left.reduce((sum, { price }) => sum + (price?.monthly ?? 0), 0),
  };
}

/** What every stack of the Pulumi project knows. All of them have to answer: one that is left out would make its things look left over. */
async function stacksOf(
  { pulumi }: InfraTools,
  { project }: GcRequest,
): Promise<{ stacks: StackIds[]; projects: ReadonlySet<string> }> {
  const names = await valueOf(pulumi, await pulumi.stacks(), "", "gpuctl infra gc");
  const projects = new Set(project === null ? [] : [labelValue(project)]);
  const stacks: StackIds[] = [];
  for (const stack of names) {
    const state = await valueOf(pulumi, await pulumi.state(stack), stack, "gpuctl infra gc");
    const known = new Set(state.resources.map(({ type, id }) => knownAs(type, id)));
    stacks.push({ stack, known });
    const own = (state.outputs["inventory"] as { project?: unknown } | undefined)?.project;
    if (project === null && typeof own === "string") projects.add(labelValue(own));
  }
  return { stacks, projects };
}

function requireName({ confirm }: GcRequest, project: string): void {
  if (confirm === undefined || confirm === project) return;
  throw new UsageError(`--confirm ${confirm} is not the name of this project`, {
    because: `the project is ${project}`,
    nextSteps: [`gpuctl infra gc --confirm ${project}`],
  });
}

async function removed(
  { hcloud, progress }: { hcloud: Hcloud } & Pick<InfraTools, "progress">,
  { kind, id, name }: CloudResource,
): Promise<Pick<GcRow, "outcome" | "because">> {
  progress.emit({ kind: "step", text: `deleting ${cloudKindName(kind)} ${name}` });
  try {
    await hcloud.remove(kind, id);
    return { outcome: "deleted", because: null };
  } catch (error) {
    // One that is still in use does not keep the others.
    const because = error instanceof Error && "because" in error ? String(error.because) : String(error);
    return { outcome: "failed", because };
  }
}
