import { cloudKinds, type Price, type PriceList } from "../domain/cost/cloud.js";
import {
  allTheTime,
  breakEven,
  cloudRows,
  hostPrice,
  nodeRows,
  perMillion,
  sourceOf,
  totalOf,
  type BreakEven,
  type CostRow,
  type Counted,
  type Total,
} from "../domain/cost/cost.js";
import { newestRates, type MeasuredRate } from "../domain/cost/bench-file.js";
import type { PriceFile } from "../domain/cost/price-file.js";
import { ConfigInvalid } from "../domain/errors.js";
import { madeBy } from "../domain/infra/labels.js";
import type { Inventory } from "../domain/inventory.js";
import type { Clock } from "../ports.js";
import type { Hcloud } from "../ports/hcloud.js";

/** An environment whose cost is asked for. */
export interface CostEnvironment {
  name: string;
  /** Its nodes; none for one on this machine. */
  nodes: readonly string[];
  /** What infra made for it; null where that is not known. */
  inventory: Inventory | null;
}

export interface CostRequest {
  environments: readonly CostEnvironment[];
  prices: PriceFile | null;
  rates: readonly MeasuredRate[];
  /** The environment that a benchmark means that names none. */
  usual: string | null;
}

export interface EnvironmentCost {
  environment: string;
  rows: readonly CostRow[];
  total: Total;
  /** Price of a million by what was measured there, at full load all the time. */
  perMillion: readonly (MeasuredRate & { price: number | null })[];
}

/** A kind of host of prices.yaml. */
export interface HostCost {
  host: string;
  device: "gpu" | "cpu";
  hourly: number | null;
  monthly: number | null;
  setup: number;
  from: string;
  date: string;
  perMillion: Readonly<Partial<Record<Counted, number>>>;
}

export interface Comparison extends BreakEven {
  counted: Counted;
  gpu: string;
  cpu: string;
}

export interface CostReport {
  currency: string;
  /** When the provider's prices were read; null when they were not asked for. */
  asOf: string | null;
  environments: readonly EnvironmentCost[];
  hosts: readonly HostCost[];
  comparisons: readonly Comparison[];
}

/** What environments cost, and how that compares. Prices come from the provider's API and from prices.yaml, and from nowhere else. */
export async function cost(tools: { hcloud: Hcloud | null; clock: Clock }, request: CostRequest): Promise<CostReport> {
  const prices = (await tools.hcloud?.prices()) ?? null;
  const asOf = prices === null ? null : tools.clock.now().toISOString();
  const currency = currencyOf(prices, request.prices);
  const environments: EnvironmentCost[] = [];
  for (const environment of request.environments) environments.push(await costOf(tools.hcloud, environment, request, prices));
  const hosts = Object.entries(request.prices?.hosts ?? {}).map(([name, host]) => hostCost(name, host, prices));
  return { currency, asOf, environments, hosts, comparisons: comparisonsOf(request.prices, prices, environments) };
}

async function costOf(
  hcloud: Hcloud | null,
  { name, nodes, inventory }: CostEnvironment,
  { prices: file, rates, usual }: CostRequest,
  prices: PriceList | null,
): Promise<EnvironmentCost> {
  const made: CostRow[] = [];
  if (hcloud !== null && prices !== null && inventory !== null) {
    const selector = madeBy(inventory.project, inventory.stack);
    const resources = await Promise.all(cloudKinds.map((kind) => hcloud.list(kind, selector)));
    made.push(...cloudRows(resources.flat(), prices, nodes));
  }
  const counted = new Set(made.flatMap(({ node }) => node ?? []));
  const others = nodeRows(
    name,
    nodes.filter((node) => !counted.has(node)),
    file,
    prices,
  );
  const rows = [...made, ...others];
  const total = totalOf(rows);
  const known = total.unknown === 0 && total.hourly > 0;
  const measured = newestRates(rates, name, usual).map((rate) => ({
    ...rate,
    price: known ? perMillion(total.allTheTime, rate.perSecond) : null,
  }));
  return { environment: name, rows, total, perMillion: measured };
}

function hostCost(name: string, host: PriceFile["hosts"][string], prices: PriceList | null): HostCost {
  const price = hostPrice(host, prices);
  const rates = Object.entries(host.rates ?? {}) as [Counted, number | undefined][];
  return {
    host: name,
    device: host.device,
    hourly: price?.hourly ?? null,
    monthly: price?.monthly ?? null,
    setup: host.setup ?? 0,
    from: sourceOf(host, price),
    date: host.date,
    perMillion: Object.fromEntries(
      rates.flatMap(([counted, rate]) =>
        price === null || rate === undefined ? [] : [[counted, perMillion(allTheTime(price), rate)]],
      ),
    ),
  };
}

/** Something with a price and a rate: a kind of host, or an environment that was measured. */
interface Rated {
  name: string;
  device: "gpu" | "cpu";
  /** Of one that runs all the time; 0 where nobody knows it. */
  hourly: number;
  rates: Readonly<Partial<Record<Counted, number | undefined>>>;
}

/** Every GPU host and measured GPU environment against every CPU host of prices.yaml that was measured at the same thing. */
function comparisonsOf(file: PriceFile | null, prices: PriceList | null, environments: readonly EnvironmentCost[]): Comparison[] {
  const hosts = Object.entries(file?.hosts ?? {}).map(([name, host]): Rated => ({
    name,
    device: host.device,
    hourly: pricedAllTheTime(hostPrice(host, prices)),
    rates: host.rates ?? {},
  }));
  const gpus = [...hosts.filter(({ device }) => device === "gpu"), ...environments.flatMap(measuredGpu)];
  const cpus = hosts.filter(({ device }) => device === "cpu");
  return (["embeddings", "reranks"] as const).flatMap((counted) =>
    gpus.flatMap((gpu) =>
      cpus.flatMap((cpu): Comparison[] => {
        const [fast, slow] = [gpu.rates[counted], cpu.rates[counted]];
        if (fast === undefined || slow === undefined || gpu.hourly === 0 || cpu.hourly === 0) return [];
        const point = breakEven({ hourly: gpu.hourly, perSecond: fast }, { hourly: cpu.hourly, perSecond: slow });
        return [{ counted, gpu: gpu.name, cpu: cpu.name, ...point }];
      }),
    ),
  );
}

const pricedAllTheTime = (price: Price | null): number => (price === null ? 0 : allTheTime(price));

/** An environment whose price is known whole and that was measured on a GPU. */
function measuredGpu({ environment, total, perMillion: measured }: EnvironmentCost): Rated[] {
  const rates = measured.filter(({ device, price }) => device === "cuda" && price !== null);
  if (rates.length === 0) return [];
  const own = Object.fromEntries(rates.map(({ counted, perSecond }) => [counted, perSecond]));
  return [{ name: `environment ${environment}`, device: "gpu", hourly: total.allTheTime, rates: own }];
}

/** Amounts of two currencies are never added. */
function currencyOf(prices: PriceList | null, file: PriceFile | null): string {
  if (prices !== null && file !== null && prices.currency !== file.currency)
    throw new ConfigInvalid(`prices.yaml is in ${file.currency}, and the provider's prices are in ${prices.currency}`, {
      because: "amounts of two currencies cannot be added, and gpuctl knows no rate between them",
      nextSteps: [`write the amounts of prices.yaml in ${prices.currency}`],
    });
  return prices?.currency ?? file?.currency ?? "";
}
