export interface LoadResult {
  sent: number;
  ok: number;
  failed: { service: string; reason: string }[];
}
export function startSteadyLoad(
  calls: readonly { service: string; url: string; body: () => unknown }[],
  perSecond: number,
): { stop: () => Promise<LoadResult> };
