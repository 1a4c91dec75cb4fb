import type { RehearsedStep } from "../../domain/rehearsal.js";
import { quoteWord } from "../../domain/ssh/shell-line.js";
import { phases } from "../../domain/phases.js";
import type { DryPhase, DryRunReport } from "../dry-run.js";
import { planText } from "./plan-text.js";
import { blocks } from "./table.js";

/** The plan, and below it what would be run on each host, phase by phase. Scripts stand below the line that names their arguments. */
export function dryRunText(report: DryRunReport): string {
  if (report.steps.length === 0) return planText(report);
  const ending = "Nothing was changed. Lines of a script end it when they fail; # stands before what is waited for.";
  return blocks(planText(report), ["What would be run", ...report.steps.flatMap(stepLines)].join("\n"), ending);
}

function stepLines(step: DryPhase | RehearsedStep): readonly string[] {
  switch (step.kind) {
    case "phase":
      return ["", `${(phases.indexOf(step.phase) + 1).toString().padStart(2, "0")} ${step.phase}  ${step.text}`];
    case "note":
      return [`  ${step.node}  # ${step.text}`];
    case "file":
      return [`  ${step.node}  writes ${step.path} (${step.bytes} bytes)`];
    case "send":
      return [`  ${step.node}  is sent ${step.local} as ${step.path}`];
    case "command":
      return commandLines(step);
  }
}

/** A script is long and has its arguments at the end: they come first, then its lines as they are. */
function commandLines({ node, argv, inputBytes }: Extract<RehearsedStep, { kind: "command" }>): readonly string[] {
  const input = inputBytes === null ? "" : `   (${inputBytes} bytes on stdin)`;
  const flag = argv.indexOf("-c");
  const script = argv[flag + 1] ?? "";
  if (flag === -1 || argv[flag - 1] !== "sh") return [`  ${node}  ${argv.map(quoteWord).join(" ")}${input}`];
  const words = [...argv.slice(0, flag + 1).map(quoteWord), "…", ...argv.slice(flag + 2).map(quoteWord)];
  return [`  ${node}  ${words.join(" ")}${input}`, ...script.split("\n").map((line) => `       | ${line}`)];
}
