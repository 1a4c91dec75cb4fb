import type { PlanReport } from "../plan.js";
import { blocks, section, shortDuration } from "./table.js";

/** A plan for people: why, how, and the very operations that would run. */
export function planText(report: PlanReport): string {
  if (report.empty) {
    return report.current === null
      ? `Environment ${report.environment}: nothing is configured and nothing runs.`
      : `Environment ${report.environment}: nothing to do, ${report.current} runs what the project file says.`;
  }
  const back = report.rollbackOf === null ? "" : ` (back to ${report.rollbackOf})`;
  const heading =
    report.next === null
      ? `Environment ${report.environment}: ${report.current ?? "nothing"} stays, and is put right.`
      : `Environment ${report.environment}: ${report.current ?? "nothing"} -> ${report.next}${back}`;
  const changes = report.changes.flatMap(({ service, because }) => because.map((reason) => `${service}: ${reason}`));
  return blocks(
    heading,
    section("Put right first", report.drift),
    section("Changes", [...changes, ...report.notes]),
    section("Strategy", report.strategy === null ? [] : [report.strategy.summary]),
    section("Operations", report.operations),
    ending(report),
  );
}

/** What comes after the operations, or what to do when there can be none. */
function ending({ next, current, strategy, soakMs, wayBack }: PlanReport): string {
  if (strategy?.kind === "refuse") return `Next: ${strategy.nextStep}`;
  if (next === null) return "";
  const gates = `Every candidate passes its gates before traffic moves; then ${shortDuration(soakMs)} of soak.`;
  if (wayBack === null) return gates;
  const warm = wayBack.warmForMs > 0 ? `warm for ${shortDuration(wayBack.warmForMs)}` : wayBack.readiness;
  return `${gates}\nThe way back to ${current ?? "it"}: ${warm} (${wayBack.expected}).`;
}
