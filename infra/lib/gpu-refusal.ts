import type { PricedHost, PriceFile } from "../../cli/src/domain/cost/price-file.js";

/** The user's own price list, which `gpuctl cost` reads too. */
export type PriceList =
  { kind: "none" } | { kind: "unreadable"; file: string } | { kind: "known"; file: string; list: PriceFile };

const ways = [
  {
    way: "robot",
    what: "a dedicated GEX server of Hetzner Robot, ordered by hand, then `kind: adopted`",
  },
  {
    way: "adopted",
    what: "any box that you reach by SSH (a T4 of another cloud, a colocation, your own rack), `kind: adopted`",
  },
  {
    way: "existing-cluster",
    what: "a Kubernetes cluster that has GPU nodes, `gpuctl:cluster` with `kind: existing`",
  },
] as const;

/** Families of Hetzner Cloud's server types. None has a GPU, and the API has no field that could say otherwise. */
const families = /^(?:cx|cpx|cax|ccx)\d+$/;
/** NVIDIA's cards by letter and number, such as t4, l40s, a10g, v100, h200 and gb200, alone or as a part of a name. */
const looksLikeGpu =
  /gpu|gex|nvidia|tesla|rtx|(?:^|[-_])(?:[tlp]4|a2|k80|[alp]\d{2,3}|[bhv]\d{3}|g[bh]\d{3})[a-z]{0,2}(?:$|[-_])/;

/** Whether a server of Hetzner Cloud was asked to have a GPU, by a `gpu` or by the name of its type. */
export function asksForGpu(node: { serverType: string; gpu?: unknown }): boolean {
  return (node.gpu !== undefined && node.gpu !== null) || (!families.test(node.serverType) && looksLikeGpu.test(node.serverType));
}

/**
 * Why there is no GPU server at Hetzner Cloud, and the three ways to one, each with its price where the user's own list has it: no
 * price is known to the program, and the provider's API has none of what it does not sell.
 */
export function gpuRefusal(prices: PriceList): string {
  const offers = ways.map(({ way, what }, index) => `  ${index + 1}. ${what}: ${pricesOf(way, prices)}`);
  const unreadable = prices.kind === "unreadable" ? [`${prices.file} has mistakes, which gpuctl cost shows`] : [];
  return ["Hetzner Cloud has no server type with a GPU, of any kind. Three ways to get one:", ...offers, ...unreadable].join(
    "\n",
  );
}

function pricesOf(way: PricedHost["way"], prices: PriceList): string {
  if (prices.kind !== "known") return "price unknown";
  const { currency, hosts } = prices.list;
  const offered = Object.entries(hosts).filter(
    ([, host]) => host.device === "gpu" && host.hcloud === undefined && host.way === way,
  );
  const known = offered.map(([name, host]) => priceText(name, host, currency));
  return known.length > 0 ? known.join("; ") : "price unknown";
}

function priceText(name: string, { monthly, hourly, setup, source, date }: PricedHost, currency: string): string {
  const amount = (value: number | undefined, per: string): string[] =>
    value === undefined ? [] : [`${value.toFixed(2)} ${currency} ${per}`];
  const all = [...amount(monthly, "a month"), ...amount(hourly, "an hour"), ...amount(setup, "once")];
  return `${name} ${all.join(", ")} (${source}, read on ${date})`;
}
