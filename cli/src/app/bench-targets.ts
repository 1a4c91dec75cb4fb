import { UsageError } from "../domain/errors.js";
import { serviceNames, type ServiceName } from "../domain/names.js";
import type { Reaching } from "./service-address.js";
import { addressedTarget, configuredTarget, type BenchTarget } from "./bench-target.js";

/** Words of `gpuctl bench <workload>` and the service each one measures. */
export const benchWorkloads = { embed: "embedder", rerank: "reranker", index: "index" } as const satisfies Record<
  string,
  ServiceName
>;
export type BenchWorkloadName = keyof typeof benchWorkloads;

/** The targets of a measurement of this environment: one service, or all it has. */
export async function configuredTargets(
  ctx: Reaching,
  workload: BenchWorkloadName | undefined,
): Promise<{ targets: BenchTarget[]; embedder: BenchTarget | null }> {
  const { config } = ctx;
  const wanted =
    workload === undefined ? serviceNames.filter((name) => config.services[name] !== undefined) : [benchWorkloads[workload]];
  const targets = await Promise.all(wanted.map((service) => configuredTarget(ctx, service)));
  const embedder = config.services.embedder === undefined ? null : await configuredTarget(ctx, "embedder");
  return { targets, embedder };
}

/** The target of `--url`, which needs no environment. */
export function urlTargets(url: string, workload: BenchWorkloadName | undefined): { targets: BenchTarget[]; embedder: null } {
  if (workload !== undefined) return { targets: [addressedTarget(url, benchWorkloads[workload])], embedder: null };
  throw new UsageError("--url needs to know what to measure there", {
    because: "an address does not say whether it embeds, reranks or searches",
    nextSteps: [`gpuctl bench embed --url ${url}`, `gpuctl bench rerank --url ${url}`, `gpuctl bench index --url ${url}`],
  });
}
