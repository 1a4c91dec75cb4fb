import { cosine, judgeEmbeddings, judgeIndex, judgeScores, type Verdict } from "../../domain/gates.js";
import { PreflightRefused } from "../../domain/errors.js";
import type { InstanceId } from "../../domain/names.js";
import type { ServiceSpec } from "../../domain/release.js";
import { indexSpace } from "../../domain/spec.js";
import { ms } from "../../domain/units.js";
import type { Context, HttpRequest, Probes } from "../../ports.js";
import { budgets, within } from "./deadline.js";

/** Sends one request to an instance's private socket; any status but 200 is a failure worth reading. */
export async function ask(
  ctx: Context,
  id: InstanceId,
  request: Omit<HttpRequest, "timeout">,
  budget: number = budgets.ask,
): Promise<unknown> {
  const timeout = ms(budget);
  const answer = await within(ctx.clock, timeout, `${request.method} ${request.path} on ${id}`, (signal) =>
    ctx.driver.request(id, { ...request, timeout }, signal),
  );
  if (answer.status === 200) return answer.body;
  throw new WrongStatus(
    `${request.path} was answered with ${answer.status}: ${shorten(answer.body)}`,
    answer.status,
    answer.body,
  );
}

/** An instance answered, but not with 200. */
export class WrongStatus extends Error {
  readonly status: number;
  readonly body: unknown;
  constructor(message: string, status: number, body: unknown) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

const shorten = (body: unknown): string => (typeof body === "string" ? body : JSON.stringify(body)).slice(0, 200);

/** The correctness gate: everything the model's probes can tell about an instance. */
export async function checkAnswers(ctx: Context, id: InstanceId, spec: ServiceSpec, predecessorRuns: boolean): Promise<Verdict> {
  if (spec.service === "index") return checkIndex(ctx, id, spec, predecessorRuns);
  const probes = await probesOf(ctx, id, spec);
  if (spec.service === "embedder")
    return probes.kind === "embedder" ? checkEmbedder(ctx, id, probes.items) : wrongKind(probes.kind);
  return probes.kind === "embedder" ? checkBiEncoder(ctx, id, probes.items) : checkCrossEncoder(ctx, id, probes);
}

/** One cheap answer that a broken engine cannot give, for the soak and for a warm rollback. */
export async function checkOneAnswer(ctx: Context, id: InstanceId, spec: ServiceSpec): Promise<Verdict> {
  if (spec.service === "index") return checkIndex(ctx, id, spec, false);
  const probes = await probesOf(ctx, id, spec);
  if (probes.kind === "embedder") {
    return spec.service === "embedder"
      ? checkEmbedder(ctx, id, shortest(probes.items), false)
      : checkBiEncoder(ctx, id, shortest(probes.items, 3));
  }
  return checkCrossEncoder(ctx, id, { ...probes, items: probes.items.slice(0, 1) });
}

const shortest = <T extends { tokens: number }>(items: readonly T[], count = 1): readonly T[] =>
  [...items].sort((a, b) => a.tokens - b.tokens).slice(0, count);

const wrongKind = (kind: string): Verdict => ({ passed: false, detail: `its model is a ${kind}, which makes no embeddings` });

/** The probes of the model that answers: the smaller one where the main one cannot run. */
async function probesOf(ctx: Context, id: InstanceId, spec: ServiceSpec): Promise<Probes> {
  const smaller = spec.fallback?.model;
  const ref = smaller !== undefined && (await ctx.driver.health(id)).fallback ? smaller : spec.model;
  const probes = ref === null ? null : ((await ctx.models.find(ref))?.probes ?? (await ctx.driver.probes?.(ref)) ?? null);
  if (probes !== null) return probes;
  throw new PreflightRefused(`the model of ${spec.service} is not in the model store`, {
    because: `nothing there matches ${ref?.id ?? "no model"}@${ref?.revision ?? ""}`,
    nextSteps: ["gpuctl models fetch"],
  });
}

type EmbeddingProbe = Extract<Probes, { kind: "embedder" }>["items"][number];

async function checkEmbedder(
  ctx: Context,
  id: InstanceId,
  items: readonly EmbeddingProbe[],
  countTokens = true,
): Promise<Verdict> {
  const texts = items.map((item) => item.text);
  const vectors = await ask(ctx, id, { method: "POST", path: "/embed", body: { inputs: texts } }, budgets.gates);
  const tokens = countTokens ? await promptTokens(ctx, id, texts) : null;
  return judgeEmbeddings(items, vectors, tokens);
}

/** How many tokens the service says it read; null when its answer does not say. */
async function promptTokens(ctx: Context, id: InstanceId, texts: readonly string[]): Promise<number | null> {
  const answer = await ask(ctx, id, { method: "POST", path: "/v1/embeddings", body: { input: texts } }, budgets.gates);
  const usage = (answer as { usage?: { prompt_tokens?: unknown } } | null)?.usage?.prompt_tokens;
  return typeof usage === "number" ? usage : null;
}

/** A bi-encoder's score is the cosine of its texts' vectors, so the model's own probes say what it must be. */
async function checkBiEncoder(ctx: Context, id: InstanceId, items: readonly EmbeddingProbe[]): Promise<Verdict> {
  const [query, ...documents] = items.filter((item) => item.text.trim() !== "");
  if (query === undefined || documents.length === 0) return { passed: true, detail: "the model has too few probes to compare" };
  const body = { query: query.text, texts: documents.map((item) => item.text), raw_scores: true };
  const answer = await ask(ctx, id, { method: "POST", path: "/rerank", body }, budgets.gates);
  return judgeScores(
    documents.map((item) => cosine(query.vector, item.vector)),
    answer,
    1e-3,
  );
}

async function checkCrossEncoder(
  ctx: Context,
  id: InstanceId,
  probes: Extract<Probes, { kind: "cross-encoder" }>,
): Promise<Verdict> {
  const tolerance = probes.origin === "reference" ? 1e-2 : 1e-3;
  let last: Verdict = { passed: true, detail: "the model has no probes" };
  for (const query of new Set(probes.items.map((item) => item.query))) {
    const items = probes.items.filter((item) => item.query === query);
    const body = { query, texts: items.map((item) => item.document), raw_scores: true };
    const answer = await ask(ctx, id, { method: "POST", path: "/rerank", body }, budgets.gates);
    last = judgeScores(
      items.map((item) => item.logit),
      answer,
      tolerance,
    );
    if (!last.passed) return last;
  }
  return { ...last, detail: `${probes.items.length} logits within ${tolerance} of the ${probes.origin} probes` };
}

async function checkIndex(ctx: Context, id: InstanceId, spec: ServiceSpec, predecessorRuns: boolean): Promise<Verdict> {
  const answer = await ask(ctx, id, { method: "GET", path: "/private/index" });
  return judgeIndex(answer, indexSpace(spec)?.generation ?? null, predecessorRuns);
}
