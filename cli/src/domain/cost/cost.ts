import { nodeLabel } from "../infra/labels.js";
import type { ServiceName } from "../names.js";
import { hoursPerMonth, priceOf, cloudKindName, type CloudResource, type Price, type PriceList } from "./cloud.js";
import type { PriceFile, PricedHost } from "./price-file.js";

/** One thing that costs money. */
export interface CostRow {
  /** `server gpu-1`, `gex45 gpu-1`. */
  what: string;
  /** Net; null where nobody knows the price. */
  price: Price | null;
  /** Paid once, net. */
  setup: number;
  /** Where the price comes from: the API, or source and date of prices.yaml. */
  from: string;
  /** What else there is to say of it. */
  note: string | null;
  /** Node of the environment that it is; null for what is no node. */
  node: string | null;
}

export interface Total extends Price {
  setup: number;
  /** Of an hour when all of it runs the whole month: what the provider bills at most for a month counts, resource by resource. */
  allTheTime: number;
  /** Rows whose price nobody knows: they are not in the sums. */
  unknown: number;
}

/** Where prices come from that are read at run time. */
const fromApi = "Hetzner Cloud API";

/** What the resources of a stack at the provider cost. */
export function cloudRows(resources: readonly CloudResource[], prices: PriceList, nodes: readonly string[]): CostRow[] {
  return resources.flatMap((resource): CostRow[] => {
    const price = priceOf(resource, prices);
    if (price !== null && price.monthly === 0) return [];
    const what = `${cloudKindName(resource.kind)} ${resource.name}`;
    const off = resource.kind === "servers" && resource.status === "off";
    const labelled = resource.labels[nodeLabel] ?? null;
    const node = resource.kind === "servers" && labelled !== null && nodes.includes(labelled) ? labelled : null;
    const from =
      price === null ? `not in the price list: ${resource.type ?? "no type"} in ${resource.location ?? "no location"}` : fromApi;
    return [{ what, price, setup: 0, from, note: off ? "off, and billed all the same" : null, node }];
  });
}

/** Nodes that are no servers of the provider, by prices.yaml; null prices where it does not say. */
export function nodeRows(
  environment: string,
  nodes: readonly string[],
  file: PriceFile | null,
  prices: PriceList | null,
): CostRow[] {
  return nodes.map((node): CostRow => {
    const found = Object.entries(file?.hosts ?? {}).find(([, host]) => host.nodes?.includes(`${environment}/${node}`));
    if (found === undefined)
      return { what: `node ${node}`, price: null, setup: 0, from: "no entry in prices.yaml names it", note: null, node };
    const [name, host] = found;
    const price = hostPrice(host, prices);
    return { what: `${name} ${node}`, price, setup: host.setup ?? 0, from: sourceOf(host, price), note: null, node };
  });
}

/** What a kind of host costs; null for a type of the provider when its prices were not read, or do not have it. */
export function hostPrice(host: PricedHost, prices: PriceList | null): Price | null {
  if (host.hcloud !== undefined) return prices?.servers[host.hcloud.type]?.[host.hcloud.location] ?? null;
  const monthly = host.monthly ?? (host.hourly ?? 0) * hoursPerMonth;
  return { monthly, hourly: host.hourly ?? monthly / hoursPerMonth };
}

/** Price of an hour of what runs all the time: a month is billed at its own price, where so many hours would cost more. */
export const allTheTime = ({ hourly, monthly }: Price): number => Math.min(hourly, monthly / hoursPerMonth);

/** Where the price of a host stands, with its date. */
export function sourceOf(host: PricedHost, price: Price | null): string {
  if (host.hcloud === undefined) return `${host.source}, ${host.date}`;
  return price === null ? `${host.hcloud.type} in ${host.hcloud.location} is not in the price list` : fromApi;
}

/** Sums of what is known. */
export function totalOf(rows: readonly CostRow[]): Total {
  const sum = (read: (row: CostRow) => number): number => rows.reduce((total, row) => total + read(row), 0);
  return {
    hourly: sum(({ price }) => price?.hourly ?? 0),
    monthly: sum(({ price }) => price?.monthly ?? 0),
    allTheTime: sum(({ price }) => (price === null ? 0 : allTheTime(price))),
    setup: sum(({ setup }) => setup),
    unknown: rows.filter(({ price }) => price === null).length,
  };
}

/** What a benchmark counted, and which rate of prices.yaml is the same. */
export const countedBy = { embedder: "embeddings", reranker: "reranks" } as const satisfies Partial<Record<ServiceName, string>>;
export type Counted = (typeof countedBy)[keyof typeof countedBy];

/** Price of a million at full load. @param hourly  `allTheTime` of a host that works so @param perSecond  more than 0 */
export const perMillion = (hourly: number, perSecond: number): number => (hourly / (perSecond * 3600)) * 1e6;

/** From which load on a GPU host is cheaper than CPU hosts. */
export interface BreakEven {
  /** Share of the time that the GPU has to be at full load, 0 to 1; more than 1 where CPU hosts are always cheaper. */
  duty: number;
  /** The same as a mean rate, a second. */
  perSecond: number;
  /** CPU hosts that do as much as the GPU at full load, rounded up. */
  cpuHosts: number;
}

/**
 * A GPU host costs the same whatever it does. CPU hosts are added one by one with the load, each at its own price and rate. They cost
 * as much as the GPU host when the mean load is `gpu price / cpu price * cpu rate`; in shares of what the GPU can do, that is the duty
 * cycle. Fractions of a CPU host are counted as such: with few of them the real point lies higher.
 * @param gpu  price an hour of one that runs all the time and items a second, both more than 0
 */
export function breakEven(gpu: { hourly: number; perSecond: number }, cpu: { hourly: number; perSecond: number }): BreakEven {
  const perSecond = (gpu.hourly / cpu.hourly) * cpu.perSecond;
  return { perSecond, duty: perSecond / gpu.perSecond, cpuHosts: Math.ceil(gpu.perSecond / cpu.perSecond) };
}
