import type { Workload } from "../bench/workload.js";
import { ms } from "../domain/units.js";
import type { HttpClient, LoadSamples } from "../ports.js";
import { type BenchTarget, uncached } from "./bench-target.js";

/** What the sampled answers looked like. */
export interface Checks {
  answers: number;
  /** Requests that were asked again in another form after the load. */
  askedAgain: number;
  /** One sentence for each kind of problem, with how often it was seen. */
  failed: readonly string[];
}

const askedAgain = 3;
const againTimeout = ms(60_000);

/** Checks the kept answers, then asks a few of their questions once more in another form and compares. */
export async function checkAnswers(
  tools: { http: HttpClient; signal: AbortSignal },
  target: BenchTarget,
  workload: Workload,
  samples: LoadSamples,
): Promise<Checks> {
  const seen = new Map<string, number>();
  for (const { ordinal, body } of samples.kept)
    for (const problem of workload.check(ordinal, body)) seen.set(problem, (seen.get(problem) ?? 0) + 1);
  const total = samples.kept.length;
  const failed = [...seen].map(([problem, count]) => `${String(count)} of ${String(total)} answers checked: ${problem}`);
  if (failed.length > 0) return { answers: total, askedAgain: 0, failed };
  // A substitute ranks the first documents only, so another order is another question to it; the verdict says so.
  const again = samples.unranked > 0 ? [] : spread(samples.kept, askedAgain);
  for (const { ordinal, body } of again) {
    const difference = await compareAgain(tools, target, workload, ordinal, body);
    if (difference !== null) failed.push(`asked again: ${difference}`);
  }
  return { answers: total, askedAgain: again.length, failed: [...new Set(failed)] };
}

async function compareAgain(
  tools: { http: HttpClient; signal: AbortSignal },
  target: BenchTarget,
  workload: Workload,
  ordinal: number,
  body: string,
): Promise<string | null> {
  const { path, body: text } = workload.again(ordinal);
  const { base, headers } = target.address;
  const question = {
    method: "POST",
    path,
    body: JSON.parse(text) as unknown,
    headers: uncached(headers),
    timeout: againTimeout,
  } as const;
  const answer = await tools.http.request(base, question, tools.signal);
  if (answer.status !== 200) return `the service answered ${String(answer.status)}`;
  return workload.compare(body, JSON.stringify(answer.body));
}

/** A few items from all along a list. */
function spread<T>(items: readonly T[], count: number): T[] {
  const step = Math.max(1, Math.floor(items.length / count));
  return items.filter((_, n) => n % step === 0).slice(0, count);
}
