import { type ErrorDetails, exitCodes, type ExitCodeName, GpuctlError } from "./domain/errors.js";
import { usageWords } from "./usage-report.js";

/** What `--json` prints as `error`, and what the human text is made of. */
export interface ErrorReport {
  name: string;
  message: string;
  because: string | null;
  /** A table or the like for people, line by line; `data` has the same for scripts. Only when there is one. */
  lines?: readonly string[];
  nextSteps: readonly string[];
  exitCode: number;
  data: Record<string, unknown> | null;
  /** Only under GPUCTL_DEBUG. */
  stack?: string;
}

export type CaughtSignal = "SIGINT" | "SIGTERM" | null;

interface Context {
  /** How the user called us, for next steps: `deploy reranker`. */
  commandId: string;
  /** The signal that asked this command to end, if one did. */
  signal: CaughtSignal;
  debug: boolean;
}

/** One path from any thrown thing to one report with one exit code. */
export function reportError(thrown: unknown, context: Context): ErrorReport {
  const report = classify(thrown, context);
  return context.debug ? { ...report, stack: stackOf(thrown) } : report;
}

/** What a person reads on stderr: what, why, what to type next. */
export function errorText(report: ErrorReport): string {
  const lines = [`Error: ${report.message}`];
  if (report.because !== null) lines.push(`  Because ${report.because.replace(/\.+$/, "")}.`);
  if (report.lines !== undefined) lines.push(...report.lines.map((line) => `  ${line}`));
  if (report.nextSteps.length > 0) lines.push("Next:", ...report.nextSteps.map((step) => `  ${step}`));
  if (report.stack !== undefined) lines.push("", report.stack);
  return `${lines.join("\n")}\n`;
}

function classify(thrown: unknown, context: Context): ErrorReport {
  if (thrown instanceof GpuctlError) return ours(thrown, context.signal);
  if (context.signal !== null && isAbort(thrown)) return interrupted(context.signal);
  if (isUsageError(thrown)) return usage(thrown, context.commandId);
  return bug(thrown);
}

function ours(error: GpuctlError, signal: CaughtSignal): ErrorReport {
  const exit: ExitCodeName = error.exit === "interrupted" && signal === "SIGTERM" ? "terminated" : error.exit;
  return makeReport(error.name, error.message, exit, {
    nextSteps: error.nextSteps,
    ...(error.because === undefined ? {} : { because: error.because }),
    ...(error.lines.length === 0 ? {} : { lines: error.lines }),
    ...(error.data === undefined ? {} : { data: error.data }),
  });
}

function interrupted(signal: "SIGINT" | "SIGTERM"): ErrorReport {
  return makeReport("Interrupted", `stopped by ${signal}`, signal === "SIGINT" ? "interrupted" : "terminated", {});
}

function usage(error: Error, commandId: string): ErrorReport {
  const { message, because } = usageWords(error);
  const nextSteps = [`gpuctl ${commandId} --help`.replace("  ", " ")];
  return makeReport("UsageError", message, "usage", { nextSteps, ...(because === null ? {} : { because }) });
}

function bug(thrown: unknown): ErrorReport {
  const what =
    thrown instanceof Error ? `${thrown.name}: ${thrown.message}` : `something that is no error was thrown (${String(thrown)})`;
  return makeReport("Bug", `this is a bug in gpuctl, not in what you typed: ${what}`, "bug", {
    nextSteps: [
      "GPUCTL_DEBUG=1 gpuctl … with the same arguments prints where it happened",
      "gpuctl doctor --json describes this machine for a bug report",
      "gpuctl status shows what runs; a deploy that was cut short is mended by the next gpuctl deploy",
    ],
  });
}

function makeReport(name: string, message: string, exit: ExitCodeName, details: Omit<ErrorDetails, "cause">): ErrorReport {
  return {
    name,
    message,
    because: details.because ?? null,
    ...(details.lines === undefined ? {} : { lines: details.lines }),
    nextSteps: details.nextSteps ?? [],
    exitCode: exitCodes[exit],
    data: details.data ?? null,
  };
}

function isAbort(thrown: unknown): boolean {
  return thrown instanceof Error && (thrown.name === "AbortError" || ("code" in thrown && thrown.code === "ABORT_ERR"));
}

/** oclif's parser throws errors that carry `oclif.exit`; importing its class here would load it for nothing. */
function isUsageError(thrown: unknown): thrown is Error {
  return thrown instanceof Error && "oclif" in thrown;
}

function stackOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  const own = thrown.stack ?? String(thrown);
  return thrown.cause === undefined ? own : `${own}\ncaused by: ${stackOf(thrown.cause)}`;
}
