import { hoursPerMonth } from "../../domain/cost/cloud.js";
import type { CostRow } from "../../domain/cost/cost.js";
import type { Comparison, CostReport, EnvironmentCost, HostCost } from "../cost.js";
import { blocks, section, table } from "./table.js";

/** Two decimals, or as many as an amount below a cent needs to say something. */
export function amount(value: number): string {
  if (value === 0 || value >= 0.01) return value.toFixed(2);
  return value.toPrecision(2);
}

const hourly = (value: number): string => value.toFixed(4);

export function costText(report: CostReport): string {
  const { currency, asOf, environments, hosts, comparisons } = report;
  const read =
    asOf === null
      ? "The provider was not asked for prices: HCLOUD_TOKEN is not set (the secret hcloud:token of a stack is for Pulumi alone)."
      : `Prices of Hetzner Cloud as read on ${asOf}.`;
  const capped =
    "A million, and from which load on, are for hosts that run all the time: the month's price counts where it is less than its hours cost.";
  const rated =
    comparisons.length > 0 || [...environments, ...hosts].some(({ perMillion }) => Object.keys(perMillion).length > 0);
  return blocks(
    ...environments.map((environment) => environmentText(environment, currency)),
    hosts.length === 0 ? "" : hostsText(hosts, currency),
    section("From which load on a GPU is cheaper than CPU hosts:", comparisons.map(comparisonText)),
    `${read} All amounts are net; a month without a price of its own has ${hoursPerMonth} hours.${rated ? `\n${capped}` : ""}`,
  );
}

function environmentText({ environment, rows, total, perMillion }: EnvironmentCost, currency: string): string {
  if (rows.length === 0) return `Environment ${environment}: nothing that costs anything.`;
  const body = rows.map((row) => [row.what, ...prices(row), [row.from, row.note].filter((part) => part !== null).join("; ")]);
  const sum = ["total", hourly(total.hourly), amount(total.monthly), totalNote(total)];
  const measured = perMillion.map(({ counted, price, perSecond, device, verdict, endedAt, file }) => {
    const what = price === null ? "price unknown" : `${amount(price)} ${currency} a million ${counted}`;
    return `${what}, at ${perSecond.toFixed(1)} a second on ${device}, all the time (${file}, ${endedAt}, ${verdict})`;
  });
  return [
    `Environment ${environment}`,
    table(["", `${currency} AN HOUR`, "A MONTH", "PRICE FROM"], [...body, sum]),
    ...measured,
  ].join("\n");
}

function prices({ price }: CostRow): [string, string] {
  return price === null ? ["unknown", "unknown"] : [hourly(price.hourly), amount(price.monthly)];
}

function totalNote({ unknown, setup }: EnvironmentCost["total"]): string {
  const missing = unknown === 0 ? [] : [`without ${unknown} of unknown price`];
  const once = setup === 0 ? [] : [`and ${amount(setup)} once`];
  return [...missing, ...once].join(", ");
}

function hostsText(hosts: readonly HostCost[], currency: string): string {
  const cell = (value: number | null | undefined, write: (value: number) => string): string =>
    value === null ? "unknown" : value === undefined ? "-" : write(value);
  const body = hosts.map(({ host, device, hourly: hour, monthly, setup, from, date, perMillion }) => [
    host,
    device,
    cell(hour, hourly),
    cell(monthly, amount),
    amount(setup),
    cell(perMillion.embeddings, amount),
    cell(perMillion.reranks, amount),
    `${from}${from.includes(date) ? "" : `; rates ${date}`}`,
  ]);
  const header = ["HOST", "", `${currency} AN HOUR`, "A MONTH", "ONCE", "A MILLION EMBEDDINGS", "RERANKS", "FROM"];
  return ["prices.yaml", table(header, body)].join("\n");
}

function comparisonText({ counted, gpu, cpu, duty, perSecond, cpuHosts }: Comparison): string {
  const where = `${counted}: ${gpu} against ${cpu}`;
  const full = `at full load it does as much as ${cpuHosts} of them`;
  if (duty > 1) return `${where}: never, ${full} and costs more`;
  return `${where}: from ${(duty * 100).toFixed(1)} % of its time at full load, a mean of ${perSecond.toFixed(1)} a second; ${full}`;
}
