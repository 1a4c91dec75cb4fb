import type { ReleaseId, ServiceName } from "../domain/names.js";
import { limitsDiffer } from "../domain/compose/proxy-route.js";
import { PreflightRefused } from "../domain/errors.js";
import { checkAdmitted } from "../domain/preflight/check-admitted.js";
import { nodeNames, nodeNeeds } from "../domain/preflight/needs-of.js";
import { describeOperation, restartText } from "../domain/operations.js";
import { isEmpty, type Plan, type ServiceChange } from "../domain/plan.js";
import type { Strategy } from "../domain/placement.js";
import { expectedTime, wayBack, type ExpectedTime, type Readiness } from "../domain/rollback.js";
import type { ReleaseRecord } from "../domain/release.js";
import type { Context } from "../ports.js";
import { configuredService, resolveDesired, type Desired } from "./lifecycle/desired.js";
import { passBySilent } from "./lifecycle/left-out.js";
import { surveying } from "./lifecycle/nodes.js";
import { strategyText } from "./lifecycle/rollout.js";
import { phase, step } from "./lifecycle/session.js";
import { newInstances, operationsOf } from "./lifecycle/switch.js";
import { survey, type Decide, type Survey, type Wish } from "./lifecycle/survey.js";

export interface PlanRequest {
  /** Only this service; the others stay as they are. */
  service: string | undefined;
}

/** A plan as it is shown and printed as JSON: no specs, no secrets, the operations as the lines that describe them. */
export interface PlanReport {
  environment: string;
  current: ReleaseId | null;
  next: ReleaseId | null;
  rollbackOf: ReleaseId | null;
  empty: boolean;
  /** What puts right the current release. */
  drift: readonly string[];
  changes: readonly ServiceChange[];
  strategy: (Strategy & { summary: string }) | null;
  operations: readonly string[];
  soakMs: number;
  /** How fast the current release could be back afterwards; null when nothing runs now. */
  wayBack: ({ readiness: Readiness; warmForMs: number } & ExpectedTime) | null;
  notes: readonly string[];
}

/** What is wished for when the project file decides. */
export interface ConfiguredWish extends Wish {
  desired: Desired;
}

/** Wishes for what gpuctl.yaml says, for every service or only one. */
export function fromConfiguration(ctx: Context, only: ServiceName | null): Decide<ConfiguredWish> {
  return async (current) => {
    const desired = await resolveDesired(ctx, only, current);
    return { specs: desired.specs, rollbackTo: null, desired };
  };
}

/** Says what a deploy would do, and changes nothing. */
export async function plan(ctx: Context, request: PlanRequest): Promise<PlanReport> {
  const only = request.service === undefined ? null : configuredService(ctx.config, request.service);
  const seen = await surveyConfigured(ctx, only);
  return planReport(ctx, seen, seen.wish.desired.notes);
}

/** Phase 1: resolves what is wished for and looks at what is there. Throws PreflightRefused for what cannot be made of it. */
export async function surveyConfigured(ctx: Context, only: ServiceName | null): Promise<Survey & { wish: ConfiguredWish }> {
  refuseUnknownPorts(ctx);
  const seen = await phase(
    ctx,
    "resolve",
    null,
    () => surveying(ctx, "deploy", () => survey(ctx, fromConfiguration(ctx, only))),
    ({ plan: made }) => summary(made),
  );
  await passBy(ctx, seen.plan);
  for (const { file, because } of seen.stored.damaged)
    ctx.progress.emit({ kind: "warning", text: `release record ${file} is not trusted: ${because}` });
  for (const note of seen.wish.desired.notes) step(ctx, note);
  return seen;
}

/** What is said of ports without asking a host: whoever only plans shall hear it too. */
function refuseUnknownPorts({ config, progress }: Context): void {
  const load = { imageBytes: null, sentBytes: null, modelBytes: null };
  const found = nodeNames(config).flatMap((node) =>
    checkAdmitted(nodeNeeds(config, node, load)).map((finding) => ({ ...finding, what: `${node}: ${finding.what}` })),
  );
  for (const { level, what, because } of found)
    if (level === "warning") progress.emit({ kind: "warning", text: `${what}: ${because ?? ""}` });
  const blockers = found.filter(({ level }) => level === "blocker");
  const [first] = blockers;
  if (first === undefined) return;
  throw new PreflightRefused(blockers.map(({ what }) => what).join("; "), {
    because: first.because ?? "",
    nextSteps: [...new Set(blockers.flatMap(({ nextSteps = [] }) => nextSteps)), "gpuctl plan"],
    data: { blockers },
  });
}

/** Some hosts on one release and some on another is what every other rule prevents: only what does not answer is left behind. */
async function passBy(ctx: Context, { release, current }: Plan): Promise<void> {
  if (release === null) return;
  const changes = release.changes.map(({ service, because }) => `${service} (${because.join("; ")})`).join(", ");
  const chosen = ctx.nodes?.chosen ?? [];
  await passBySilent(ctx, {
    command: "deploy",
    asks: `${ctx.config.projectFile} asks for more than ${current ?? "nothing"}, which is current on all hosts: ${changes}`,
    services: newInstances(release),
    nextSteps: current === null ? [] : [`gpuctl repair --hosts ${chosen.join(",")}, to bring ${current} back there`],
  });
}

function summary(made: Plan): string {
  if (isEmpty(made)) return "nothing to do";
  const next = made.release === null ? "" : `${made.current ?? "nothing"} -> ${made.release.id}`;
  const drift = made.drift.length === 0 ? "" : `${made.drift.length} to put right`;
  return [drift, next].filter((part) => part !== "").join(", ");
}

export function planReport(
  ctx: Context,
  { plan: made, current, records }: Pick<Survey, "plan" | "current" | "records">,
  notes: readonly string[],
): PlanReport {
  const { release } = made;
  const back = release === null ? null : wayBack(current, release);
  const restarts = made.drift.flatMap((operation) => (operation.kind === "ensure-manager" ? (operation.restarts ?? []) : []));
  const first = restarts.length === 0 ? [] : [`but first ${restartText(restarts)}`];
  return {
    environment: ctx.config.environment,
    current: made.current,
    next: release?.id ?? null,
    rollbackOf: release?.rollbackOf ?? null,
    empty: isEmpty(made),
    drift: made.drift.map(describeOperation),
    changes: release?.changes ?? [],
    strategy: release === null ? null : { ...release.strategy, summary: [strategyText(ctx, release), ...first].join(", ") },
    operations: (release?.operations ?? []).map(describeOperation),
    soakMs: ctx.config.timings.soak,
    wayBack: back === null || current === null ? null : { ...back, ...expectedTime(back.readiness, current, records) },
    notes: [...notes, ...reloads(ctx, made, records)],
  };
}

/** Services whose route gets other limits from what is started: the newcomer takes the place of whoever was in its slot last. */
function reloads(ctx: Context, { release }: Plan, records: readonly ReleaseRecord[]): readonly string[] {
  if (ctx.config.target !== "compose" || release === null) return [];
  const current = records.find(({ id }) => id === release.parent);
  return operationsOf(release, "start").flatMap(({ service, instance: { spec, slot } }) => {
    const stays = current?.services[service];
    const before = records.findLast(({ services }) => services[service]?.slot === slot)?.services[service];
    if (stays === undefined) return [];
    if (!limitsDiffer([stays.spec, ...(before === undefined ? [] : [before.spec])], [stays.spec, spec])) return [];
    return [
      `${service}: the proxy takes over other limits for requests, and cuts about five connections that are just being opened`,
    ];
  });
}
