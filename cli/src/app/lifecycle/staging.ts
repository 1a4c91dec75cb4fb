import { PreflightRefused } from "../../domain/errors.js";
import type { PlannedRelease } from "../../domain/plan.js";
import type { ServiceSpec } from "../../domain/release.js";
import type { DeviceMemory } from "../../domain/strategy.js";
import { ms } from "../../domain/units.js";
import type { Context, Finding } from "../../ports.js";
import { budgets, stopIfAsked, within } from "./deadline.js";
import { phase } from "./session.js";
import { operationsOf } from "./switch.js";

/** Phases 2 to 5: everything that can be checked and fetched before a lease is taken. Repeatable; changes nothing that runs. */
export async function stageEverything(ctx: Context, release: PlannedRelease): Promise<void> {
  const specs = operationsOf(release, "start").map(({ instance }) => instance.spec);
  await phase(
    ctx,
    "preflight",
    null,
    () => refuseBlockers(ctx, specs),
    (findings) => `${findings.length} checks passed`,
  );
  await phase(
    ctx,
    "space",
    null,
    () => within(ctx.clock, ms(budgets.preflight), "asking for free memory", () => ctx.driver.memory()),
    (devices) => devices.map(describeMemory).join("; "),
  );
  for (const part of ["code", "models"] as const) {
    const name = part === "code" ? "stage-code" : "stage-models";
    await phase(
      ctx,
      name,
      null,
      () => stage(ctx, specs, part),
      (lines) => [...new Set(lines)].join("; "),
    );
  }
}

function describeMemory({ place, freeMiB, totalMiB }: DeviceMemory): string {
  const said =
    freeMiB === null ? `${totalMiB} MiB of memory, not told how much is free` : `${freeMiB} of ${totalMiB} MiB of memory free`;
  return `${place === null ? "" : `${place}: `}${said}`;
}

async function stage(ctx: Context, specs: readonly ServiceSpec[], part: "code" | "models"): Promise<readonly string[]> {
  const lines: string[] = [];
  for (const spec of specs) {
    stopIfAsked(ctx.signal);
    if (part === "models" && spec.model === null) continue;
    lines.push(await stageOne(ctx, spec, part));
  }
  return lines;
}

/** Makes one part of a spec present and verified, with the deadline of the largest download to every node. */
export function stageOne(ctx: Context, spec: ServiceSpec, part: "code" | "models"): Promise<string> {
  const nodes = ctx.driver.nodesOf?.(spec.service).length ?? 1;
  return within(
    ctx.clock,
    ms(budgets.stage * Math.max(1, nodes)),
    `staging the ${part} of ${spec.service}`,
    () => ctx.driver.stage(spec, part, ctx.signal),
    ["run the same command again: it goes on where it was"],
  );
}

/** All blockers at once: nobody should mend one only to meet the next. */
async function refuseBlockers(ctx: Context, specs: readonly ServiceSpec[]): Promise<readonly Finding[]> {
  const findings = await within(ctx.clock, ms(budgets.preflight), "checking the target", () =>
    ctx.driver.preflight(specs, ctx.signal),
  );
  const blockers = findings.filter(({ level }) => level === "blocker");
  for (const { what, because } of findings.filter(({ level }) => level === "warning"))
    ctx.progress.emit({ kind: "warning", text: because === undefined ? what : `${what}: ${because}` });
  if (blockers.length === 0) return findings;
  throw new PreflightRefused(blockers.map(({ what }) => what).join("; "), {
    because: blockers.map(({ what, because }) => because ?? what).join("; "),
    nextSteps: [...new Set(blockers.flatMap(({ nextSteps }) => nextSteps ?? [])), "gpuctl doctor"],
    data: { blockers },
  });
}
