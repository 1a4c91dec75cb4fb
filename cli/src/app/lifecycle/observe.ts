import { instanceOf, type Observed, type ObservedInstance } from "../../domain/drift.js";
import { inOrder } from "../../domain/fingerprint.js";
import { currentRelease } from "../../domain/history.js";
import { managerName, serviceNames, type InstanceId, type ServiceName } from "../../domain/names.js";
import type { ReleaseRecord, ServiceRelease, ServiceSpec } from "../../domain/release.js";
import { runsStill, type Readiness } from "../../domain/rollback.js";
import { applySettlements, danglingRecords, settleDangling, type SeenInstance } from "../../domain/settle.js";
import { ms } from "../../domain/units.js";
import type { Context, InstanceObservation, InstanceProcess, Observation } from "../../ports.js";
import { budgets, within } from "./deadline.js";

/** What was found, for planning and for people. */
export interface Facts {
  observation: Observation;
  observed: Observed;
  seen: readonly SeenInstance[];
}

/** Looks at the target without changing anything. Works when the manager is dead. */
export async function lookAround(ctx: Context, records: readonly ReleaseRecord[]): Promise<Facts> {
  // What is current depends on what was seen only while a release is unfinished; else its files are looked at meanwhile.
  const settled = danglingRecords(records).length === 0 ? findUnstaged(ctx, currentRelease(records)) : null;
  settled?.catch(() => undefined);
  const observation = await observe(ctx);
  const seen = await seeDangling(ctx, records, observation);
  const current = currentRelease(applySettlements(records, settleDangling(records, seen)));
  const [writer, unstaged] = await Promise.all([findWriter(ctx, observation), settled ?? findUnstaged(ctx, current)]);
  const observed: Observed = {
    managerRuns: observation.manager.state === "running",
    manager: managerName(ctx.config.target),
    ...toldOf(observation.manager),
    instances: observation.instances.map(reduce),
    writer,
    unstaged,
    elsewhere: serviceNames.filter((service) => ctx.driver.nodesOf?.(service).length === 0),
    ...(observation.standbys === undefined ? {} : { standbys: observation.standbys }),
  };
  return { observation, observed, seen };
}

function toldOf(manager: Observation["manager"]): Pick<Observed, "managerOutdated" | "managerRestarts" | "managerLacks"> {
  if (manager.state === "absent") return {};
  const { outdated, restarts, lacks } = manager;
  return {
    ...(outdated === undefined ? {} : { managerOutdated: outdated }),
    ...(restarts === undefined ? {} : { managerRestarts: restarts }),
    ...(lacks === undefined ? {} : { managerLacks: lacks }),
  };
}

/** The target's own report, with a deadline. */
export function observe(ctx: Context): Promise<Observation> {
  return within(ctx.clock, ms(budgets.look), "looking at the target", () => ctx.driver.observe());
}

function reduce(instance: InstanceObservation): ObservedInstance {
  const { id, service, release, traffic, stopsInMs, partial } = instance;
  const ended = howItEnded(instance.process);
  const whole = { id, service, release, process: instance.process.state, traffic, ended, stopsInMs };
  return partial === undefined ? whole : { ...whole, partial };
}

/** `killed by SIGKILL`, `exited with status 1`, or null while it runs. */
export function howItEnded(process: InstanceProcess): string | null {
  switch (process.state) {
    case "running":
      return null;
    case "exited":
      return process.signal === null ? `exited with status ${process.code ?? "unknown"}` : `killed by ${process.signal}`;
    case "stopped-by-reboot":
      return "stopped by reboot";
    case "stopped":
      return "stopped";
  }
}

/** Health of the instances of unfinished releases; nobody else's health decides a plan. */
async function seeDangling(
  ctx: Context,
  records: readonly ReleaseRecord[],
  observation: Observation,
): Promise<readonly SeenInstance[]> {
  const dangling = danglingRecords(records);
  if (dangling.length === 0) return [];
  const theirs = new Set(dangling.flatMap((record) => inOrder(record.services).map(([, service]) => instanceOf(service))));
  return Promise.all(
    observation.instances.map(async (instance) => {
      const running = instance.process.state === "running";
      const healthy = running && theirs.has(instance.id) && (await isHealthy(ctx, instance.id));
      return { id: instance.id, running, open: instance.traffic === "open", healthy };
    }),
  );
}

/** Whether an instance says that it works. Not being able to say so is a no. */
export async function isHealthy(ctx: Context, id: InstanceId): Promise<boolean> {
  try {
    const health = await within(ctx.clock, ms(budgets.ask), `asking ${id}`, () => ctx.driver.health(id));
    return health.status === "healthy" || health.status === "degraded";
  } catch {
    return false;
  }
}

/** Which index instance writes. Null when one that runs cannot be asked: then nothing is concluded. */
async function findWriter(ctx: Context, observation: Observation): Promise<Observed["writer"]> {
  const running = observation.instances.filter(
    (instance) => instance.service === "index" && instance.process.state === "running",
  );
  let silent = false;
  for (const { id } of running) {
    const writer = await writes(ctx, id);
    if (writer === true) return { holder: id };
    if (writer === null) silent = true;
  }
  return silent ? null : { holder: null };
}

/** Whether an index instance holds the writer lock; null when it does not say. */
export async function writes(ctx: Context, id: InstanceId): Promise<boolean | null> {
  try {
    const answer = await within(ctx.clock, ms(budgets.ask), `asking ${id} who writes`, (signal) =>
      ctx.driver.request(id, { method: "GET", path: "/private/index", timeout: ms(5000) }, signal),
    );
    if (answer.status !== 200) return null;
    return (answer.body as { writer?: unknown }).writer === true;
  } catch {
    return null;
  }
}

async function findUnstaged(ctx: Context, current: ReleaseRecord | null): Promise<readonly ServiceName[]> {
  const services = inOrder(current?.services ?? {});
  const intact = await Promise.all(services.map(([, { spec }]) => isIntact(ctx, spec)));
  return services.filter((_, i) => intact[i] === false).map(([service]) => service);
}

/** Whether nobody touched the staged files of a spec, with a deadline: it may hash gigabytes. */
function isIntact(ctx: Context, spec: ServiceSpec): Promise<boolean> {
  return within(ctx.clock, ms(budgets.gates), `checking the files of ${spec.service}`, () => ctx.driver.intact(spec));
}

/** How fast one service of an earlier release can be back. What runs still needs no look at its files, which may be gigabytes. */
export async function readinessOf(
  ctx: Context,
  earlier: ServiceRelease,
  current: ServiceRelease | undefined,
  { observed }: Facts,
): Promise<Readiness> {
  const { spec } = earlier;
  const staged = (): Promise<boolean> =>
    within(ctx.clock, ms(budgets.gates), `checking the files of ${spec.service}`, () => ctx.driver.staged(spec));
  return runsStill(earlier, current, observed) ?? ((await staged()) ? "cached" : "cold");
}
