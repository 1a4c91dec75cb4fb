/** What the provider's API says, reduced to what is asked of it. Amounts are net, in the currency of the price list. */

/** Hours that prices by the month and by the hour are converted with: 365 days of 24 hours, in 12 months. */
export const hoursPerMonth = 730;

export interface ServerType {
  name: string;
  cores: number;
  /** GB. */
  memory: number;
  /** `x86` or `arm`. */
  architecture: string;
  /** `shared` or `dedicated` cores. */
  cpu: string;
  locations: readonly { name: string; available: boolean; deprecated: boolean }[];
}

export interface Price {
  hourly: number;
  /** What a whole month costs at most. */
  monthly: number;
}

/** `GET /pricing`. */
export interface PriceList {
  currency: string;
  /** By type, then by location. */
  servers: Readonly<Record<string, Readonly<Record<string, Price>>>>;
  loadBalancers: Readonly<Record<string, Readonly<Record<string, Price>>>>;
  /** By `ipv4` and `ipv6`, then by location. */
  primaryIps: Readonly<Record<string, Readonly<Record<string, Price>>>>;
  floatingIps: Readonly<Record<string, Readonly<Record<string, Price>>>>;
  /** For one GB of a volume. */
  volumeGbMonth: number;
  /** Backups of a server cost this share of its price, percent. */
  backupPercent: number;
}

/** Kinds of resources that the program makes; the first five cost money. */
export const cloudKinds = [
  "servers",
  "load_balancers",
  "volumes",
  "primary_ips",
  "floating_ips",
  "firewalls",
  "networks",
  "placement_groups",
  "ssh_keys",
] as const;
export type CloudKind = (typeof cloudKinds)[number];

export interface CloudResource {
  kind: CloudKind;
  id: number;
  name: string;
  labels: Readonly<Record<string, string>>;
  created: Date;
  protected: boolean;
  /** Type of a server or a load balancer, `ipv4` or `ipv6` of an address; null for what has none. */
  type: string | null;
  location: string | null;
  /** Of a volume; null for others. */
  sizeGb: number | null;
  /** `running`, `off` ... of a server; null for others. */
  status: string | null;
  backups: boolean;
  /** Server that it belongs to, by number; null for none. */
  server: number | null;
}

/** `primary_ips` -> `primary IP`. */
export const cloudKindName = (kind: CloudKind): string =>
  kind
    .replace(/s$/, "")
    .replaceAll("_", " ")
    .replaceAll(/\b(ip|ssh)\b/g, (word) => word.toUpperCase());

/** What a resource costs while it exists; null where the price list does not say. What costs nothing costs 0. */
export function priceOf(resource: CloudResource, prices: PriceList): Price | null {
  const { kind, type, location } = resource;
  const listed = (list: PriceList["servers"]): Price | null => list[type ?? ""]?.[location ?? ""] ?? null;
  switch (kind) {
    case "servers": {
      const price = listed(prices.servers);
      return price === null || !resource.backups ? price : scaled(price, 1 + prices.backupPercent / 100);
    }
    case "load_balancers":
      return listed(prices.loadBalancers);
    case "primary_ips":
      return listed(prices.primaryIps);
    case "floating_ips":
      return listed(prices.floatingIps);
    case "volumes": {
      const monthly = (resource.sizeGb ?? 0) * prices.volumeGbMonth;
      return { monthly, hourly: monthly / hoursPerMonth };
    }
    case "firewalls":
    case "networks":
    case "placement_groups":
    case "ssh_keys":
      return { hourly: 0, monthly: 0 };
  }
}

const scaled = ({ hourly, monthly }: Price, factor: number): Price => ({ hourly: hourly * factor, monthly: monthly * factor });
