import type { Writable } from "node:stream";
import type { Progress, ProgressEvent } from "../../ports.js";
import { bar, count, duration, phaseName, quantity, type Symbols, symbolsFor } from "./format.js";

type Phase = Extract<ProgressEvent, { kind: "phase" }>;
type Amount = Extract<ProgressEvent, { kind: "amount" }>;

export interface TerminalOptions {
  env: Readonly<Record<string, string | undefined>>;
  isTTY: boolean;
  columns: number;
  /** Only warnings. */
  quiet: boolean;
  /** Milliseconds, for pacing; injected so that tests do not wait. */
  now(): number;
  /** Calls back after so many milliseconds unless what it gives back is called first; does not keep the process alive. */
  later(delay: number, callback: () => void): () => void;
}

const redrawMs = 100;
const plainAmountMs = 5000;
const plainPhaseMs = 5000;

/**
 * Progress for people, on stderr. On a terminal one line at the bottom is redrawn (a bar, or the phase under way); elsewhere
 * only whole lines are written: phases as they end (and that they are at work, after five seconds), amounts every tenth or every five seconds.
 */
export class TerminalProgress implements Progress {
  readonly #out: Writable;
  readonly #options: TerminalOptions;
  readonly #symbols: Symbols;
  readonly #colour: boolean;
  #transient = "";
  /** Forgets the line that would say that a phase is at work. */
  readonly #atWork = new Map<string, () => void>();
  #lastAmount = { label: "", at: Number.NEGATIVE_INFINITY, tenth: -1 };

  constructor(out: Writable, options: TerminalOptions) {
    this.#out = out;
    this.#options = options;
    this.#symbols = symbolsFor(options.env);
    this.#colour = options.isTTY && options.env["FORCE_COLOR"] !== "0" && !options.env["NO_COLOR"];
  }

  emit(event: ProgressEvent): void {
    if (event.kind === "warning") this.#line(`${this.#paint("33", "Warning:")} ${event.text}`);
    else if (this.#options.quiet) return;
    else if (event.kind === "phase") this.#phase(event);
    else if (event.kind === "amount") this.#amount(event);
    else this.#line(event.text);
  }

  /** Leaves the terminal without the redrawn line. */
  end(): void {
    this.#forgetAtWork();
    this.#show("");
  }

  #forgetAtWork(): void {
    for (const forget of this.#atWork.values()) forget();
    this.#atWork.clear();
  }

  #phase(event: Phase): void {
    const name = [phaseName(event.phase).padEnd(16), event.service?.padEnd(9)].filter((part) => part !== undefined).join(" ");
    const key = `${event.phase} ${event.service ?? ""}`;
    this.#atWork.get(key)?.();
    this.#atWork.delete(key);
    if (event.state === "begin") {
      this.#begin(key, `${this.#symbols.running} ${name.trimEnd()}${event.detail === undefined ? "" : `  ${event.detail}`}`);
      return;
    }
    const elapsed = event.elapsedMs === undefined ? "" : `  ${duration(event.elapsedMs)}`;
    const detail = event.detail === undefined ? "" : ` ${event.detail}`;
    const skipped = event.state === "skipped" ? " skipped" : "";
    this.#line(`${this.#mark(event.state)} ${name}${skipped}${detail}${elapsed}`.trimEnd());
  }

  /** A log file of a deploy must not be silent for as long as a model takes to load. */
  #begin(key: string, text: string): void {
    this.#show(text);
    if (!this.#options.isTTY)
      this.#atWork.set(
        key,
        this.#options.later(plainPhaseMs, () => {
          this.#line(text);
        }),
      );
  }

  #mark(state: "end" | "skipped" | "failed"): string {
    if (state === "end") return this.#paint("32", this.#symbols.done);
    return state === "failed" ? this.#paint("31", this.#symbols.failed) : this.#symbols.skipped;
  }

  #amount(event: Amount): void {
    const now = this.#options.now();
    const last = this.#lastAmount;
    const tenth = event.total === null || event.total === 0 ? -1 : Math.floor((10 * event.done) / event.total);
    const finished = event.total !== null && event.done >= event.total;
    const fresh = last.label !== event.label;
    const due = this.#options.isTTY
      ? fresh || finished || now - last.at >= redrawMs
      : fresh || tenth > last.tenth || now - last.at >= plainAmountMs;
    if (!due) return;
    this.#lastAmount = { label: event.label, at: now, tenth };
    // An amount is a sign of life already.
    this.#forgetAtWork();
    if (!this.#options.isTTY || finished) this.#line(this.#amountText(event, false));
    else this.#show(this.#amountText(event, true));
    if (finished) this.#lastAmount = { label: "", at: Number.NEGATIVE_INFINITY, tenth: -1 };
  }

  #amountText(event: Amount, drawn: boolean): string {
    const rate = event.perSecond === undefined ? "" : `  ${quantity(event.perSecond, event.unit)}/s`;
    if (event.total === null) return `${event.label}  ${quantity(event.done, event.unit)}${rate}`;
    const share = event.total === 0 ? 1 : event.done / event.total;
    const done = event.unit === "bytes" ? quantity(event.done, event.unit) : count(event.done);
    const left = event.etaSeconds === undefined || share >= 1 ? "" : `  ${duration(event.etaSeconds * 1000)} left`;
    const graph = drawn ? `  ${bar(share, 20, this.#symbols)}` : "";
    const percent = `${Math.floor(share * 100).toString()} %`.padStart(5);
    return `${event.label}${graph} ${percent}  ${done} of ${quantity(event.total, event.unit)}${rate}${left}`;
  }

  #line(text: string): void {
    const kept = this.#transient;
    this.#show("");
    this.#out.write(`${text}\n`);
    if (kept !== "" && this.#options.isTTY) this.#show(kept);
  }

  #show(text: string): void {
    if (!this.#options.isTTY || text === this.#transient) return;
    const fitted = Array.from(text)
      .slice(0, Math.max(20, this.#options.columns - 1))
      .join("");
    this.#out.write(`\r\u001B[K${fitted}`);
    this.#transient = text;
  }

  #paint(code: string, text: string): string {
    return this.#colour ? `\u001B[${code}m${text}\u001B[0m` : text;
  }
}
