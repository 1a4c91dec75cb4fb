import { Pool } from "undici";
import { openLoopMeasureMs } from "../../domain/schedule.js";
import type { LoadGenerator, LoadPlan, LoadSamples } from "../../ports.js";
import { LoadRun } from "./load-run.js";
import { paceClosedLoop, paceOpenLoop } from "./pacing.js";

const tickMs = 250;

type OnTick = NonNullable<Parameters<LoadGenerator["run"]>[2]>;

/** Makes load from this process, one thread, over keep-alive HTTP/1.1 connections. */
export class UndiciLoadGenerator implements LoadGenerator {
  async run(plan: LoadPlan, signal: AbortSignal, onTick?: OnTick): Promise<LoadSamples> {
    signal.throwIfAborted();
    // Deadlines are ours, from the moment a request is due; the pool's own would only see the wire.
    const pool = new Pool(new URL(plan.base).origin, {
      connections: plan.connections,
      pipelining: 1,
      headersTimeout: 0,
      bodyTimeout: 0,
      connectTimeout: plan.timeout,
      allowH2: false,
    });
    const measureMs = plan.mode.kind === "open" ? openLoopMeasureMs(plan.window, plan.mode.rate) : plan.window.measureMs;
    const run = new LoadRun(plan, pool, measureMs);
    const ticker = setInterval(() => onTick?.({ elapsedMs: run.now(), totalMs: run.to, answered: run.answered }), tickMs);
    try {
      await Promise.race([paceAndDrain(run, plan), aborted(signal)]);
      return run.result();
    } finally {
      clearInterval(ticker);
      run.stop();
      await pool.destroy();
    }
  }
}

async function paceAndDrain(run: LoadRun, plan: LoadPlan): Promise<void> {
  const { mode, seed } = plan;
  await (mode.kind === "open" ? paceOpenLoop(run, mode, seed) : paceClosedLoop(run, mode));
  await run.drained();
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason instanceof Error ? signal.reason : new Error("stopped")), {
      once: true,
    });
  });
}
