import type { Dispatcher } from "undici";
import type { LoadPlan, LoadRequest, LoadSamples } from "../../ports.js";
import { dispatch, type Ending, Exchange } from "./exchange.js";
import { HiccupMeter } from "./hiccup-meter.js";
import { InFlight } from "./in-flight.js";
import { KeptAnswers } from "./kept-answers.js";
import { SampleColumns } from "./sample-columns.js";

const deadlineSweepMs = 20;

/** The state of one running load: what is unanswered, what was measured. How requests are paced is not its business. */
export class LoadRun {
  /** Milliseconds since the load's start. */
  readonly now: () => number;
  readonly from: number;
  #to: number;
  answered = 0;
  readonly #plan: LoadPlan;
  readonly #pool: Dispatcher;
  readonly #samples = new SampleColumns();
  readonly #kept: KeptAnswers;
  readonly #inFlight: InFlight;
  readonly #hiccups: HiccupMeter;
  readonly #devices: Record<string, number> = {};
  #fromCache = 0;
  #unranked = 0;
  readonly #warmUp = { requests: 0, failed: 0 };
  readonly #completed = { requests: 0, items: 0, tokens: 0, bytes: 0 };
  #measured = 0;
  #ordinal = 0;
  #prepared: LoadRequest;
  /** In the order in which they were due, so that the first unfinished one has the earliest deadline. */
  #pending: Exchange[] = [];
  #sweeper: NodeJS.Timeout | undefined;
  #idle: (() => void) | undefined;
  #loopAtStart: ReturnType<typeof performance.eventLoopUtilization> | undefined;
  /** Told when a request has ended, well or not. */
  onEnd: (exchange: Exchange, ok: boolean) => void = () => undefined;

  constructor(plan: LoadPlan, pool: Dispatcher, measureMs: number) {
    const origin = performance.now();
    this.now = () => performance.now() - origin;
    this.#plan = plan;
    this.#pool = pool;
    this.from = plan.window.warmUpMs;
    this.#to = this.from + measureMs;
    this.#kept = new KeptAnswers(plan.keep, plan.seed);
    this.#inFlight = new InFlight(this.from, this.#to);
    this.#hiccups = new HiccupMeter(this.now);
    this.#prepared = plan.request(0);
    this.#hiccups.start();
    this.#sweeper = setInterval(() => this.#sweep(), deadlineSweepMs);
  }

  get to(): number {
    return this.#to;
  }

  /** Sends the next request. The one after it is prepared at once, so that making it delays nothing that is due. */
  send(due: number): void {
    if (due >= this.#to) return;
    const dispatched = this.now();
    this.#loopAtStart ??= dispatched >= this.from ? performance.eventLoopUtilization() : undefined;
    const measured = this.#inWindow(due);
    const { ordinal, request } = this.#next();
    const keep = measured && this.#kept.choose(ordinal);
    const exchange = new Exchange({ ordinal, due, dispatched, items: request.items, keep }, this.now, this.#finish);
    if (this.#inFlight.count >= this.#plan.maxUnanswered) this.#drop(exchange);
    else {
      this.#inFlight.change(1, dispatched);
      this.#pending.push(exchange);
      dispatch(this.#pool, exchange, this.#plan, request);
    }
    this.#prepared = this.#plan.request(this.#ordinal);
  }

  /** Resolves when every request has been answered or given up. */
  async drained(): Promise<void> {
    while (this.#inFlight.count > 0) await new Promise<void>((resolve) => (this.#idle = resolve));
  }

  /** Ends the pacing too: nothing is due any more. */
  stop(): void {
    this.#to = -Infinity;
    this.onEnd = () => undefined;
    clearInterval(this.#sweeper);
    this.#hiccups.stop();
  }

  result(): LoadSamples {
    const meanInFlight = this.#inFlight.mean(this.now());
    return {
      ...this.#samples.take(),
      measureMs: this.#to - this.from,
      warmUpMs: this.from,
      warmUp: this.#warmUp,
      meanInFlight,
      inFlightAtStart: this.#inFlight.atStart,
      inFlightAtEnd: this.#inFlight.atEnd,
      completedInWindow: this.#completed,
      devices: this.#devices,
      fromCache: this.#fromCache,
      unranked: this.#unranked,
      hiccups: this.#hiccups.between(this.from, this.#to),
      loopBusy: performance.eventLoopUtilization(this.#loopAtStart).utilization,
      kept: this.#kept.all(),
    };
  }

  #next(): { ordinal: number; request: LoadRequest } {
    const next = { ordinal: this.#ordinal, request: this.#prepared };
    this.#ordinal += 1;
    return next;
  }

  /** A closed loop that has not measured enough goes on for another second, up to its limit. */
  #extendIfShort(now: number): void {
    const { minRequests, maxMeasureMs } = this.#plan.window;
    const limit = this.from + maxMeasureMs;
    if (this.#plan.mode.kind === "open" || now < this.#to || this.#to >= limit || this.#measured >= minRequests) return;
    this.#to = Math.min(limit, Math.max(now, this.#to) + 1000);
    this.#inFlight.extend(this.#to);
  }

  #drop(exchange: Exchange): void {
    exchange.finished = true;
    this.#record(exchange, { outcome: "dropped", done: NaN, headers: {}, tail: "", bytes: 0, body: null });
  }

  readonly #finish = (exchange: Exchange, ending: Ending): void => {
    const now = this.now();
    this.#extendIfShort(now);
    this.#inFlight.change(-1, now);
    this.answered += 1;
    this.#record(exchange, ending);
    this.onEnd(exchange, ending.outcome === "ok");
    if (this.#inFlight.count === 0) this.#idle?.();
  };

  #record(exchange: Exchange, ending: Ending): void {
    const ok = ending.outcome === "ok";
    const tokens = ok ? this.#plan.tokens(ending.headers, ending.tail) : null;
    if (ok && this.#inWindow(ending.done)) this.#complete(exchange.items, tokens ?? NaN, ending.bytes);
    if (!this.#inWindow(exchange.due)) {
      if (exchange.due >= this.from) return;
      this.#warmUp.requests += 1;
      if (!ok) this.#warmUp.failed += 1;
      return;
    }
    this.#measured += 1;
    if (ok) {
      this.#noteDevice(ending.headers["x-gpuctl-device"]);
      this.#fromCache += shareOf(ending.headers["x-gpuctl-cache"]).part;
      const ranked = shareOf(ending.headers["x-gpuctl-ranked"]);
      this.#unranked += ranked.all - ranked.part;
    }
    if (ending.body !== null) this.#kept.put(exchange.ordinal, ending.body);
    const { due, dispatched, sent, items } = exchange;
    this.#samples.add({
      due,
      dispatched,
      sent,
      items,
      done: ending.done,
      outcome: ending.outcome,
      tokens: tokens ?? NaN,
      bytes: ending.bytes,
    });
  }

  #complete(items: number, tokens: number, bytes: number): void {
    this.#completed.requests += 1;
    this.#completed.items += items;
    this.#completed.tokens += tokens;
    this.#completed.bytes += bytes;
  }

  #noteDevice(header: string | string[] | undefined): void {
    const device = typeof header === "string" && header !== "" ? header : "unstated";
    this.#devices[device] = (this.#devices[device] ?? 0) + 1;
  }

  #inWindow(at: number): boolean {
    return at >= this.from && at < this.#to;
  }

  #sweep(): void {
    const late = this.now() - this.#plan.timeout;
    let passed = 0;
    for (const exchange of this.#pending) {
      if (!exchange.finished && exchange.due > late) break;
      if (!exchange.finished) exchange.timeOut();
      passed += 1;
    }
    if (passed > 0) this.#pending = this.#pending.slice(passed);
  }
}

/** Both numbers of `part/all`; zeros where the service says nothing. */
function shareOf(header: string | string[] | undefined): { part: number; all: number } {
  const found = typeof header === "string" ? /^(\d{1,9})\/(\d{1,9})$/.exec(header) : null;
  return { part: Number(found?.[1] ?? 0), all: Number(found?.[2] ?? 0) };
}
