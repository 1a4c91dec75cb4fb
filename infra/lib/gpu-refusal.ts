import type { Price } from "./stack-schema.js";

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
const looksLikeGpu = /gpu|gex|^t4|[-_]?(?:t4|l4|a100|h100|rtx)(?:$|[-_])/;

/** Whether a server of Hetzner Cloud was asked to have a GPU, by a `gpu` or by the name of its type. */
export function asksForGpu(node: { serverType: string; gpu?: unknown }): boolean {
  return (node.gpu !== undefined && node.gpu !== null) || (!families.test(node.serverType) && looksLikeGpu.test(node.serverType));
}

/**
 * Why there is no GPU server at Hetzner Cloud, and the three ways to one, each with its price where the stack's own price list
 * has it: no price is known to the program.
 */
export function gpuRefusal(prices: readonly Price[]): string {
  const offers = ways.map(({ way, what }, index) => {
    const known = prices.filter((price) => price.way === way).map(priceText);
    return `  ${index + 1}. ${what}: ${known.length > 0 ? known.join("; ") : "price unknown"}`;
  });
  return ["Hetzner Cloud has no server type with a GPU, of any kind. Three ways to get one:", ...offers].join("\n");
}

const priceText = ({ what, amount, currency, per, source, date }: Price): string =>
  `${what} ${amount.toFixed(2)} ${currency} a ${per} (${source}, read on ${date})`;
