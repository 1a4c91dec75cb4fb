import type { PlannedRelease } from "../../domain/plan.js";
import type { PlannedInstance } from "../../domain/operations.js";
import type { ServiceRelease } from "../../domain/release.js";
import { countRequests, heldTo, judgeLatency, judgeSoak, type SoakLook } from "../../domain/soak.js";
import { ms, type Milliseconds } from "../../domain/units.js";
import type { Context, Observation } from "../../ports.js";
import { checkOneAnswer, WrongStatus } from "./answers.js";
import { timeRequests } from "./benchmark-gate.js";
import { budgets, pause, within } from "./deadline.js";
import { observe } from "./observe.js";
import { onNode, placesOf } from "./on-nodes.js";
import { troubled, type Findings } from "./prepare.js";
import { reasonOf, type Session } from "./session.js";
import { operationsOf } from "./switch.js";

/** A look that could not be taken says nothing about the candidate the first time, and enough the second. */
const blindLooksInARow = 2;
/** Timed requests a look, when a benchmark gate is configured. */
const timedPerLook = 10;

interface Watched {
  instance: PlannedInstance;
  node: string | null;
  /** Of the node, where there are several. */
  ctx: Context;
  provenOn: NonNullable<ServiceRelease["proof"]>["device"] | null;
  first: SoakLook | null;
  /** Started by this release, so every restart is its own. */
  fresh: boolean;
  blind: number;
  /** What the benchmark gate allows; null without one. */
  maxP95: Milliseconds | null;
  /** Milliseconds of the gate's own requests, sent during the soak. */
  timed: number[];
}

/** Watches the new instances under live traffic, a probe a second. Throws the candidate's trouble; Ctrl-C ends it too. */
export async function soak(
  session: Session,
  release: PlannedRelease,
  duration: Milliseconds,
  findings: Findings,
): Promise<string> {
  const { ctx } = session;
  const watched = watchList(ctx, release, findings);
  const looks = Math.max(1, Math.ceil(duration / 1000));
  for (let look = 0; look < looks; look += 1) {
    await pause(ctx.clock, ms(Math.min(1000, duration)), ctx.signal);
    for (const one of watched) await troubled(session, one.instance, "soak", () => lookOnce(one));
    ctx.progress.emit({ kind: "amount", label: "soak", done: look + 1, total: looks, unit: "probes" });
  }
  const detail = `${looks} probes of ${watched.length} instances, all right`;
  for (const { service } of new Set(watched.map(({ instance }) => instance)))
    findings.gates.push({ service, gate: "soak", outcome: "passed", detail });
  return detail;
}

function watchList(ctx: Context, release: PlannedRelease, findings: Findings): readonly Watched[] {
  const watch = (instance: PlannedInstance, fresh: boolean): readonly Watched[] =>
    placesOf(ctx, instance.service).map((place) => ({ ...place, ...watchOf(instance, fresh) }));
  const watchOf = (instance: PlannedInstance, fresh: boolean): Omit<Watched, "node" | "ctx"> => ({
    instance,
    provenOn: heldTo(
      instance.service,
      findings.measured[instance.service]?.proof ?? release.services[instance.service]?.proof ?? null,
    ),
    first: null,
    fresh,
    blind: 0,
    maxP95: ctx.config.services[instance.service]?.benchmarkGate?.maxP95 ?? null,
    timed: [],
  });
  return [
    ...operationsOf(release, "start").flatMap(({ instance }) => watch(instance, true)),
    ...operationsOf(release, "reuse").flatMap(({ instance }) => watch(instance, false)),
  ];
}

async function lookOnce(watched: Watched): Promise<void> {
  const { ctx } = watched;
  let look: SoakLook;
  try {
    look = await takeLook(ctx, watched.instance);
    if (watched.maxP95 !== null && look.process === "running")
      watched.timed.push(...(await timeRequests(ctx, watched.instance, timedPerLook)));
    watched.blind = 0;
  } catch (thrown) {
    watched.blind += 1;
    if (watched.blind >= blindLooksInARow)
      throw new Error(onNode(watched.node, `it failed in the soak: ${reasonOf(thrown)}`), { cause: thrown });
    return;
  }
  watched.first ??= watched.fresh ? { ...look, restarts: 0 } : look;
  const wrong =
    judgeSoak(watched.first, look, watched.provenOn) ??
    (watched.maxP95 === null ? null : judgeLatency(watched.timed, watched.maxP95));
  if (wrong !== null) throw new Error(onNode(watched.node, `it failed in the soak: ${wrong}`));
}

async function takeLook(ctx: Context, instance: PlannedInstance): Promise<SoakLook> {
  const seen = (await observe(ctx)).instances.find((candidate) => candidate.id === instance.id);
  const process = seen?.process.state ?? "absent";
  // A dead process cannot be asked, and being dead decides.
  if (process !== "running") return { ...unasked(seen), process };
  const health = await within(ctx.clock, ms(budgets.ask), `asking ${instance.id}`, () => ctx.driver.health(instance.id));
  const { status, device, reason } = health;
  return {
    ...unasked(seen),
    process,
    status,
    device,
    reason,
    requests: await counted(ctx, instance),
    wrongAnswer: await wrongAnswer(ctx, instance),
  };
}

const unasked = (seen: Observation["instances"][number] | undefined): SoakLook => ({
  process: "absent",
  restarts: seen?.restarts ?? 0,
  status: "failed",
  device: null,
  reason: null,
  requests: null,
  wrongAnswer: null,
});

async function counted(ctx: Context, instance: PlannedInstance): Promise<SoakLook["requests"]> {
  const answer = await within(ctx.clock, ms(budgets.ask), `reading metrics of ${instance.id}`, (signal) =>
    ctx.driver.request(instance.id, { method: "GET", path: "/metrics", timeout: ms(5000) }, signal),
  );
  return answer.status === 200 && typeof answer.body === "string" ? countRequests(answer.body) : null;
}

async function wrongAnswer(ctx: Context, instance: PlannedInstance): Promise<string | null> {
  try {
    const verdict = await checkOneAnswer(ctx, instance.id, instance.spec);
    return verdict.passed ? null : verdict.detail;
  } catch (thrown) {
    // 429 is a busy instance doing what it must; any other status is a wrong answer.
    if (thrown instanceof WrongStatus) return thrown.status === 429 ? null : thrown.message;
    throw thrown;
  }
}
