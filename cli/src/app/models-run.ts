import { Failed } from "../domain/errors.js";
import { ms } from "../domain/units.js";
import type { Clock, LockedModel, ModelTools, Progress } from "../ports.js";

/** What the fetcher says about a model it put into the store. */
export type FetcherResult = LockedModel & { selfRecorded: boolean; int8: boolean };

/** A large model over a slow line takes hours; a line that carries nothing is the fetcher's to notice. */
const deadline = ms(12 * 3600_000);

/** Runs the Python fetcher for one model, showing its progress. */
export async function runFetch(
  tools: ModelTools,
  python: string,
  name: string,
  spec: Readonly<Record<string, unknown>>,
): Promise<FetcherResult> {
  return understand(await run(tools, python, name, ["fetch", "--store", tools.paths.store, "--spec", JSON.stringify(spec)]));
}

/** The commit that the hub's `main` of a model is at. */
export async function newestCommit(
  tools: ModelTools,
  python: string,
  name: string,
  spec: Readonly<Record<string, unknown>>,
): Promise<string> {
  return String((await run(tools, python, name, ["resolve", "--spec", JSON.stringify(spec)]))["revision"]);
}

/** One command of the Python side; its result event. */
async function run(
  tools: ModelTools,
  python: string,
  name: string,
  command: readonly string[],
): Promise<Readonly<Record<string, unknown>>> {
  const { executor, signal, paths } = tools;
  const events = new FetcherEvents(name, tools.progress, tools.clock);
  const argv = [python, "-m", "gpuctl_serving.models", ...command] as const;
  const result = await executor.run(
    { argv: [...argv], env: { PYTHONPATH: paths.wheel } },
    {
      deadline,
      signal,
      onLine: (line, stream) => {
        if (stream === "stdout") events.line(line);
      },
    },
  );
  return events.outcome(result);
}

/** Understands the fetcher's JSON lines. */
class FetcherEvents {
  readonly #name: string;
  readonly #progress: Progress;
  readonly #clock: Clock;
  #step: { label: string; began: number; from: number } | null = null;
  #result: Readonly<Record<string, unknown>> | null = null;
  #error: Readonly<Record<string, unknown>> | null = null;

  constructor(name: string, progress: Progress, clock: Clock) {
    this.#name = name;
    this.#progress = progress;
    this.#clock = clock;
  }

  line(line: string): void {
    const event = parse(line);
    if (event["event"] === "progress") this.#amount(event);
    else if (event["event"] === "result") this.#result = event;
    else if (event["event"] === "error") this.#error = event;
  }

  outcome(run: { code: number | null; signal: string | null; stderr: string }): Readonly<Record<string, unknown>> {
    if (this.#error !== null) throw failure(this.#name, this.#error);
    if (run.code === 0 && this.#result !== null) return this.#result;
    const said = run.stderr.trim().split("\n").slice(-3).join("\n");
    throw new Failed(`fetching the model ${this.#name} failed`, {
      because: said === "" ? `the fetcher ended with ${String(run.code ?? run.signal)} and said nothing` : said,
      nextSteps: ["gpuctl doctor", "then run gpuctl models fetch again"],
    });
  }

  /** The fetcher counts; rate and time left are worked out here. */
  #amount(event: Readonly<Record<string, unknown>>): void {
    const { label, done, total, unit } = event;
    if (typeof label !== "string" || typeof done !== "number" || typeof unit !== "string") return;
    const now = this.#clock.monotonic();
    if (this.#step?.label !== label) this.#step = { label, began: now, from: done };
    const seconds = (now - this.#step.began) / 1000;
    const perSecond = seconds > 0.2 ? (done - this.#step.from) / seconds : undefined;
    const all = typeof total === "number" ? total : null;
    const eta = perSecond !== undefined && perSecond > 0 && all !== null ? (all - done) / perSecond : undefined;
    this.#progress.emit({
      kind: "amount",
      label: `${this.#name}: ${label}`,
      done,
      total: all,
      unit,
      ...(perSecond === undefined ? {} : { perSecond }),
      ...(eta === undefined ? {} : { etaSeconds: eta }),
    });
  }
}

function parse(line: string): Readonly<Record<string, unknown>> {
  try {
    const value = JSON.parse(line) as unknown;
    return typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
  } catch {
    return {};
  }
}

function failure(name: string, error: Readonly<Record<string, unknown>>): Failed {
  const text = (value: unknown): string | null => (typeof value === "string" && value !== "" ? value : null);
  const because = [text(error["message"]), text(error["because"])].filter((part) => part !== null).join(": ");
  return new Failed(`the model ${name} could not be fetched`, {
    because,
    nextSteps: [text(error["next"]) ?? "gpuctl models fetch, again"],
  });
}

function understand(result: Readonly<Record<string, unknown>>): FetcherResult {
  const { id, revision, manifest, files, probes, dtype } = result as unknown as {
    id: string;
    revision: string;
    manifest: string;
    files: Record<string, { sha256: string }>;
    probes: { origin: string };
    dtype?: string;
  };
  const hashes = Object.fromEntries(Object.entries(files).map(([file, { sha256 }]) => [file, sha256]));
  return { id, revision, manifest, files: hashes, selfRecorded: probes.origin === "self-recorded", int8: dtype === "int8" };
}
