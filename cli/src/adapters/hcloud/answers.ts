import { z } from "zod";
import type { CloudKind, CloudResource, Price, PriceList, ServerType } from "../../domain/cost/cloud.js";

/** What is read of the API's answers; everything else is left alone, so that a new field breaks nothing. */
const money = z.object({ net: z.coerce.number() });
const prices = z.array(z.object({ location: z.string(), price_hourly: money.optional(), price_monthly: money }));
const priced = z.object({ name: z.string(), prices });

export const serverTypePage = z.object({
  server_types: z.array(
    z.object({
      name: z.string(),
      cores: z.number(),
      memory: z.number(),
      architecture: z.string(),
      cpu_type: z.string(),
      locations: z.array(z.object({ name: z.string(), available: z.boolean().nullish(), deprecation: z.unknown() })).nullish(),
    }),
  ),
});

export const pricingAnswer = z.object({
  pricing: z.object({
    currency: z.string(),
    server_types: z.array(priced),
    load_balancer_types: z.array(priced),
    primary_ips: z.array(z.object({ type: z.string(), prices })),
    floating_ips: z.array(z.object({ type: z.string(), prices })),
    volume: z.object({ price_per_gb_month: money }),
    server_backup: z.object({ percentage: z.coerce.number() }),
  }),
});

const named = z.object({ name: z.string() });
const thing = z.object({
  id: z.number(),
  name: z.string(),
  labels: z.record(z.string(), z.string()).nullish(),
  created: z.string(),
  protection: z.object({ delete: z.boolean() }).nullish(),
  server_type: named.nullish(),
  load_balancer_type: z.union([named, z.string()]).nullish(),
  type: z.string().nullish(),
  location: named.nullish(),
  home_location: named.nullish(),
  size: z.number().nullish(),
  status: z.string().nullish(),
  backup_window: z.string().nullish(),
  server: z.number().nullish(),
  assignee_id: z.number().nullish(),
});

export const thingsOf = (kind: CloudKind) => z.object({ [kind]: z.array(thing) });
export const pagination = z.object({ meta: z.object({ pagination: z.object({ next_page: z.number().nullable() }) }) });
export const actionAnswer = z.object({
  action: z.object({
    id: z.number(),
    status: z.enum(["running", "success", "error"]),
    error: z.object({ code: z.string(), message: z.string() }).nullish(),
  }),
});
export const errorAnswer = z.object({
  error: z.object({ code: z.string(), message: z.string(), details: z.unknown().optional() }),
});

export const serverTypeOf = (one: z.infer<typeof serverTypePage>["server_types"][number]): ServerType => ({
  name: one.name,
  cores: one.cores,
  memory: one.memory,
  architecture: one.architecture,
  cpu: one.cpu_type,
  locations: (one.locations ?? []).map(({ name, available, deprecation }) => ({
    name,
    available: available ?? true,
    deprecated: deprecation !== null && deprecation !== undefined,
  })),
});

export function priceListOf({ pricing }: z.infer<typeof pricingAnswer>): PriceList {
  return {
    currency: pricing.currency,
    servers: Object.fromEntries(pricing.server_types.map((type) => [type.name, byLocation(type.prices)])),
    loadBalancers: Object.fromEntries(pricing.load_balancer_types.map((type) => [type.name, byLocation(type.prices)])),
    primaryIps: Object.fromEntries(pricing.primary_ips.map((one) => [one.type, byLocation(one.prices)])),
    floatingIps: Object.fromEntries(pricing.floating_ips.map((one) => [one.type, byLocation(one.prices)])),
    volumeGbMonth: pricing.volume.price_per_gb_month.net,
    backupPercent: pricing.server_backup.percentage,
  };
}

/** Hours of the month where the API gives a price by the month alone. */
const hours = 730;

const byLocation = (list: z.infer<typeof prices>): Record<string, Price> =>
  Object.fromEntries(
    list.map(({ location, price_hourly: hourly, price_monthly: monthly }) => [
      location,
      { hourly: hourly?.net ?? monthly.net / hours, monthly: monthly.net },
    ]),
  );

export function resourceOf(kind: CloudKind, one: z.infer<typeof thing>): CloudResource {
  const balancer = one.load_balancer_type;
  return {
    kind,
    id: one.id,
    name: one.name,
    labels: one.labels ?? {},
    created: new Date(one.created),
    protected: one.protection?.delete ?? false,
    type: one.server_type?.name ?? (typeof balancer === "string" ? balancer : balancer?.name) ?? one.type ?? null,
    location: one.location?.name ?? one.home_location?.name ?? null,
    sizeGb: one.size ?? null,
    status: one.status ?? null,
    backups: one.backup_window != null,
    server: one.server ?? one.assignee_id ?? null,
  };
}
