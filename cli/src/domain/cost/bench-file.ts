import { z } from "zod";
import { countedBy, type Counted } from "./cost.js";

const report = z.object({
  header: z.object({
    command: z.string(),
    endedAt: z.string(),
    service: z.string(),
    unit: z.string(),
    device: z.string(),
    model: z.string().nullable(),
  }),
  verdict: z.string(),
  throughput: z.object({ itemsPerSecond: z.number() }),
});
const file = z.object({ schemaVersion: z.literal(1), reports: z.array(report) });

/** A rate that `gpuctl bench --out FILE` has measured. */
export interface MeasuredRate {
  file: string;
  counted: Counted;
  perSecond: number;
  device: string;
  model: string | null;
  /** As the benchmark judged itself: `VALID`, `INVALID` ... */
  verdict: string;
  endedAt: string;
  /** The environment that the command named; null when it named none. */
  environment: string | null;
}

/** The rates in what `bench --out` wrote; null for a value that is no such file. */
export function measuredRates(name: string, value: unknown): MeasuredRate[] | null {
  const parsed = file.safeParse(value);
  if (!parsed.success) return null;
  return parsed.data.reports.flatMap(({ header, verdict, throughput }): MeasuredRate[] => {
    const counted = header.service in countedBy ? countedBy[header.service as keyof typeof countedBy] : null;
    if (counted === null || throughput.itemsPerSecond <= 0 || / --url[ =]/.test(header.command)) return [];
    const { device, model, endedAt, command } = header;
    const environment = / (?:-e|--environment)[ =]?(\S+)/.exec(command)?.[1] ?? null;
    return [{ file: name, counted, perSecond: throughput.itemsPerSecond, device, model, verdict, endedAt, environment }];
  });
}

/** The newest rate of each kind that was measured in an environment. @param usual  the environment that is meant when none is named */
export function newestRates(rates: readonly MeasuredRate[], environment: string, usual: string | null): MeasuredRate[] {
  const own = rates.filter((rate) => (rate.environment ?? usual) === environment);
  const newest = new Map<Counted, MeasuredRate>();
  for (const rate of own) {
    const known = newest.get(rate.counted);
    if (known === undefined || known.endedAt < rate.endedAt) newest.set(rate.counted, rate);
  }
  return [...newest.values()];
}
