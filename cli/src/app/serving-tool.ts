import { Failed, PreflightRefused } from "../domain/errors.js";
import { ms } from "../domain/units.js";
import type { CommandResult, ModelTools, Progress } from "../ports.js";

/** What running a program of the services' Python package takes. */
export type ServingTools = Pick<ModelTools, "python" | "executor" | "clock" | "progress" | "signal" | "paths">;

export interface ServingProgram {
  /** Below `gpuctl_serving`. */
  module: string;
  args?: readonly string[];
  /** Given on stdin as JSON: addresses with keys never appear in argv. */
  input?: unknown;
  /** What failed, for the error: `the migration failed`. */
  failed: string;
  /** What to type after a failure that the program did not explain. */
  again?: string;
  /** Put before the label of its progress. */
  prefix?: string;
  /** The error that its `error` event becomes; by default what it says as it says it. */
  refused?: (error: Fields) => Failed;
}

export type Fields = Readonly<Record<string, unknown>>;

/** The work is measured in hours at most; a program that hangs is ended. */
const deadline = ms(12 * 3600_000);

/**
 * Runs a program of the services' package, which talks in JSON lines: `progress` and `step` become progress here, `result`
 * is given back, `error` becomes Failed with its own next step.
 */
export async function runServingProgram(tools: ServingTools, program: ServingProgram): Promise<Fields> {
  const python = await tools.python.find();
  if (python === null) {
    throw new PreflightRefused("the services' Python environment is missing", { nextSteps: ["gpuctl models fetch"] });
  }
  return runWith(tools, python, program);
}

/** As `runServingProgram`, with a Python that is known already. */
export async function runWith(tools: Omit<ServingTools, "python">, python: string, program: ServingProgram): Promise<Fields> {
  const events = new Events(tools, program);
  const argv = [python, "-m", `gpuctl_serving.${program.module}`, ...(program.args ?? [])] as const;
  const input = program.input === undefined ? {} : { input: JSON.stringify(program.input) };
  const run = await tools.executor.run(
    { argv: [...argv], env: { PYTHONPATH: tools.paths.wheel }, ...input },
    {
      deadline,
      signal: tools.signal,
      onLine: (line, stream) => {
        if (stream === "stdout") events.line(line);
      },
    },
  );
  return events.outcome(run);
}

class Events {
  readonly #progress: Progress;
  readonly #clock: ServingTools["clock"];
  readonly #program: ServingProgram;
  #step: { label: string; began: number; from: number } | null = null;
  #result: Fields | null = null;
  #error: Fields | null = null;

  constructor({ progress, clock }: Pick<ServingTools, "progress" | "clock">, program: ServingProgram) {
    this.#progress = progress;
    this.#clock = clock;
    this.#program = program;
  }

  line(line: string): void {
    const event = parse(line);
    if (event["event"] === "progress") this.#amount(event);
    else if (event["event"] === "step") this.#progress.emit({ kind: "step", text: words(event["step"], event["state"]) });
    else if (event["event"] === "result") this.#result = event;
    else if (event["event"] === "error") this.#error = event;
  }

  outcome(run: CommandResult): Fields {
    const { failed, again = "then run it again", refused = refusal } = this.#program;
    if (this.#error !== null) throw refused(this.#error);
    if (run.code === 0 && this.#result !== null) return this.#result;
    const said = run.stderr.trim().split("\n").slice(-3).join("\n");
    throw new Failed(failed, {
      because: said === "" ? `the program ended with ${String(run.code ?? run.signal)} and said nothing` : said,
      nextSteps: ["gpuctl doctor", again],
    });
  }

  #amount({ label, done, total, unit }: Fields): void {
    if (typeof label !== "string" || typeof done !== "number" || typeof unit !== "string") return;
    const now = this.#clock.monotonic();
    if (this.#step?.label !== label) this.#step = { label, began: now, from: done };
    const seconds = (now - this.#step.began) / 1000;
    const perSecond = seconds > 0.2 ? (done - this.#step.from) / seconds : 0;
    const all = typeof total === "number" ? total : null;
    const rate = perSecond > 0 ? { perSecond } : {};
    const eta = perSecond > 0 && all !== null ? { etaSeconds: (all - done) / perSecond } : {};
    this.#progress.emit({
      kind: "amount",
      label: `${this.#program.prefix ?? ""}${label}`,
      done,
      total: all,
      unit,
      ...rate,
      ...eta,
    });
  }
}

function parse(line: string): Fields {
  try {
    const value = JSON.parse(line) as unknown;
    return typeof value === "object" && value !== null ? (value as Fields) : {};
  } catch {
    return {};
  }
}

const words = (...parts: readonly unknown[]): string => parts.filter((part) => typeof part === "string").join(": ");

function refusal(error: Fields): Failed {
  const text = (name: string): string | undefined => {
    const value = error[name];
    return typeof value === "string" && value !== "" ? value : undefined;
  };
  const because = text("because");
  const next = text("next");
  return new Failed(text("message") ?? "it failed", {
    ...(because === undefined ? {} : { because }),
    ...(next === undefined ? {} : { nextSteps: [next] }),
  });
}
