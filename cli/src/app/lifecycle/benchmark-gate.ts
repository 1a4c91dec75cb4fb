import type { ServiceConfig } from "../../domain/config/resolved.js";
import type { Verdict } from "../../domain/gates.js";
import type { PlannedInstance } from "../../domain/operations.js";
import { indexSpace } from "../../domain/spec.js";
import type { Context, HttpRequest } from "../../ports.js";
import { ask, WrongStatus } from "./answers.js";
import { budgets, stopIfAsked } from "./deadline.js";

const concurrency = 2;
const fewestSamples = 5;

/** A short closed loop on the candidate's private socket: slower than agreed means no traffic. */
export async function benchmarkGate(
  ctx: Context,
  instance: PlannedInstance,
  gate: NonNullable<ServiceConfig["benchmarkGate"]>,
): Promise<Verdict> {
  const requests = await workload(ctx, instance);
  const samples: number[] = [];
  const began = ctx.clock.monotonic();
  const endsAt = began + gate.seconds * 1000;
  const client = async (first: number): Promise<void> => {
    for (let i = first; ctx.clock.monotonic() < endsAt || samples.length < fewestSamples; i += concurrency) {
      stopIfAsked(ctx.signal);
      const request = requests[i % requests.length];
      if (request === undefined) return;
      const sent = ctx.clock.monotonic();
      await ask(ctx, instance.id, request, budgets.gates);
      samples.push(ctx.clock.monotonic() - sent);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, (_, first) => client(first)));
  const p95 = percentile(samples, 0.95);
  const rate = (samples.length * 1000) / Math.max(1, ctx.clock.monotonic() - began);
  const figures = {
    p95Ms: Number(p95.toFixed(1)),
    maxP95Ms: gate.maxP95,
    requests: samples.length,
    perSecond: Number(rate.toFixed(1)),
  };
  const said = `p95 ${p95.toFixed(1)} ms of ${samples.length} requests, limit ${gate.maxP95} ms`;
  return { passed: p95 <= gate.maxP95, detail: said, figures };
}

/** Milliseconds that a few of the gate's requests take now, one after the other. One that is refused because the queue is full has none. */
export async function timeRequests(ctx: Context, instance: PlannedInstance, count: number): Promise<readonly number[]> {
  const requests = await workload(ctx, instance);
  const samples: number[] = [];
  for (let i = 0; i < count; i += 1) {
    const request = requests[i % requests.length];
    if (request === undefined) break;
    const sent = ctx.clock.monotonic();
    try {
      await ask(ctx, instance.id, request, budgets.ask);
      samples.push(ctx.clock.monotonic() - sent);
    } catch (thrown) {
      if (!(thrown instanceof WrongStatus) || thrown.status !== 429) throw thrown;
    }
  }
  return samples;
}

type Work = Omit<HttpRequest, "timeout">;

/** One text, one query with ten documents, or one search: what an interactive user sends. */
async function workload(ctx: Context, instance: PlannedInstance): Promise<readonly Work[]> {
  const { spec } = instance;
  if (spec.service === "index") return searches(indexSpace(spec)?.dimension ?? 0);
  const model = spec.model === null ? null : await ctx.models.find(spec.model);
  const probes = model?.probes;
  const texts =
    probes?.kind === "embedder" ? probes.items.map((item) => item.text) : (probes?.items.map((item) => item.document) ?? []);
  const filled = texts.filter((text) => text.trim() !== "");
  const documents = filled.slice(0, 10);
  return filled.map((text): Work =>
    spec.service === "embedder"
      ? { method: "POST", path: "/embed", body: { inputs: [text] } }
      : { method: "POST", path: "/rerank", body: { query: text, texts: documents } },
  );
}

function searches(dimension: number): readonly Work[] {
  const path = "/api/v1/vector-store/search";
  return Array.from({ length: Math.min(16, dimension) }, (_, axis): Work => {
    const vector = Array.from({ length: dimension }, (_unused, i) => (i === axis ? 1 : 0));
    return { method: "POST", path, body: { namespace: "default", vector, k: 10 } };
  });
}

/** The smallest sample that at least `share` of all samples do not exceed. */
function percentile(samples: readonly number[], share: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}
