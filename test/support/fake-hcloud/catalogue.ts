/**
 * What the fake provider sells. Types and places have the names of real ones; every price is made up (round, and alike for no real
 * one), so that no test can be taken for a source of prices.
 */

const locations = [
  { id: 1, name: "fsn1", description: "Falkenstein DC Park 1", country: "DE", city: "Falkenstein", network_zone: "eu-central" },
  { id: 2, name: "nbg1", description: "Nuremberg DC Park 1", country: "DE", city: "Nuremberg", network_zone: "eu-central" },
  { id: 3, name: "hel1", description: "Helsinki DC Park 1", country: "FI", city: "Helsinki", network_zone: "eu-central" },
  { id: 4, name: "ash", description: "Ashburn, VA", country: "US", city: "Ashburn, VA", network_zone: "us-east" },
].map((location) => ({ ...location, latitude: 50, longitude: 12 }));

/** Net and gross as the API writes them: text with ten decimals. */
export const money = (net: number): { net: string; gross: string } => ({ net: net.toFixed(10), gross: (net * 1.19).toFixed(10) });

interface TypeRow {
  name: string;
  cores: number;
  memory: number;
  disk: number;
  cpu: "shared" | "dedicated";
  architecture: "x86" | "arm";
  /** Per hour, made up. */
  hourly: number;
}

const rows: readonly TypeRow[] = [
  { name: "cx23", cores: 2, memory: 4, disk: 40, cpu: "shared", architecture: "x86", hourly: 0.01 },
  { name: "cx33", cores: 4, memory: 8, disk: 80, cpu: "shared", architecture: "x86", hourly: 0.02 },
  { name: "cpx32", cores: 4, memory: 8, disk: 160, cpu: "shared", architecture: "x86", hourly: 0.03 },
  { name: "cax21", cores: 4, memory: 8, disk: 80, cpu: "shared", architecture: "arm", hourly: 0.015 },
  { name: "ccx23", cores: 4, memory: 16, disk: 160, cpu: "dedicated", architecture: "x86", hourly: 0.1 },
  { name: "ccx33", cores: 8, memory: 32, disk: 240, cpu: "dedicated", architecture: "x86", hourly: 0.2 },
];

/** Hours for which a month is billed at most; made up like the prices. */
const cappedHours = 600;

const pricesOf = (hourly: number) =>
  locations.map(({ name }) => ({
    location: name,
    price_hourly: money(hourly),
    price_monthly: money(hourly * cappedHours),
    included_traffic: 21_990_232_555_520,
    price_per_tb_traffic: money(1),
  }));

const typeOf = (row: TypeRow, position: number) => ({
  id: 100 + position,
  name: row.name,
  description: row.name.toUpperCase(),
  category: row.cpu === "dedicated" ? "general_purpose" : "cost_optimized",
  cores: row.cores,
  memory: row.memory,
  disk: row.disk,
  storage_type: "local",
  cpu_type: row.cpu,
  architecture: row.architecture,
  deprecated: false,
  deprecation: null,
  prices: pricesOf(row.hourly),
  locations: locations.map(({ id, name }) => ({ id, name, recommended: name === "fsn1", available: true, deprecation: null })),
});

const images = ["ubuntu-22.04", "ubuntu-24.04", "ubuntu-26.04", "debian-12", "debian-13"].flatMap((name, position) =>
  ["x86", "arm"].map((architecture, variant) => ({
    id: 200_000 + position * 2 + variant,
    type: "system",
    status: "available",
    name,
    description: name,
    image_size: null,
    disk_size: 5,
    created: "2026-04-27T10:02:25+00:00",
    created_from: null,
    bound_to: null,
    os_flavor: name.split("-")[0],
    os_version: name.split("-")[1],
    rapid_deploy: true,
    protection: { delete: false },
    deprecated: null,
    labels: {},
    deleted: null,
    architecture,
  })),
);

/** A fresh catalogue, which a test may change: `serverTypes[0].locations[0].available = false`. */
export function catalogue() {
  const serverTypes = rows.map(typeOf);
  const each = <Price>(price: Price) => locations.map(({ name }) => ({ location: name, ...price }));
  const pricing = {
    currency: "EUR",
    vat_rate: "19.000000",
    image: { price_per_gb_month: money(0.01) },
    volume: { price_per_gb_month: money(0.05) },
    server_backup: { percentage: "20.0000000000" },
    floating_ip: { price_monthly: money(3) },
    floating_ips: [{ type: "ipv4", prices: each({ price_monthly: money(3) }) }],
    primary_ips: [
      { type: "ipv4", prices: each({ price_hourly: money(0.001), price_monthly: money(0.6) }) },
      { type: "ipv6", prices: each({ price_hourly: money(0), price_monthly: money(0) }) },
    ],
    server_types: serverTypes.map(({ id, name, prices }) => ({ id, name, prices })),
    load_balancer_types: [{ id: 1, name: "lb11", prices: pricesOf(0.01) }],
  };
  return {
    locations,
    serverTypes,
    images,
    pricing,
    loadBalancerTypes: [
      {
        id: 1,
        name: "lb11",
        description: "LB11",
        max_connections: 10_000,
        max_services: 5,
        max_targets: 25,
        max_assigned_certificates: 10,
        deprecated: null,
        prices: pricesOf(0.01),
      },
    ],
  };
}

export type Catalogue = ReturnType<typeof catalogue>;
