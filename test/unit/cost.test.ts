import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseYaml } from "../../cli/src/adapters/config/yaml-source.js";
import { cost, type CostRequest } from "../../cli/src/app/cost.js";
import { costRequest } from "../../cli/src/app/cost-request.js";
import { costText } from "../../cli/src/app/render/cost-text.js";
import { validatePrices } from "../../cli/src/domain/config/validate.js";
import { measuredRates, newestRates } from "../../cli/src/domain/cost/bench-file.js";
import type { CloudResource, PriceList } from "../../cli/src/domain/cost/cloud.js";
import { allTheTime, breakEven, perMillion } from "../../cli/src/domain/cost/cost.js";
import type { Inventory } from "../../cli/src/domain/inventory.js";
import type { Clock } from "../../cli/src/ports.js";
import type { Hcloud } from "../../cli/src/ports/hcloud.js";
import { MemoryConfigFiles } from "../fakes/memory-config-files.js";
import { catalogue } from "../support/fake-hcloud/catalogue.js";

const clock = { now: () => new Date("2026-11-21T12:00:00Z") } as Clock;
const prices: PriceList = {
  currency: "EUR",
  servers: { ccx33: { fsn1: { hourly: 0.2, monthly: 120 } } },
  loadBalancers: {},
  primaryIps: { ipv4: { fsn1: { hourly: 0.001, monthly: 0.6 } } },
  floatingIps: {},
  volumeGbMonth: 0.05,
  backupPercent: 20,
};
const inventory = { project: "shop", stack: "prod" } as Inventory;

const resource = (fields: Partial<CloudResource> & Pick<CloudResource, "kind" | "name">): CloudResource => ({
  id: 1,
  labels: {},
  created: new Date(0),
  protected: false,
  type: null,
  location: "fsn1",
  sizeGb: null,
  status: null,
  backups: false,
  server: null,
  ...fields,
});

/** A provider that has these things for the stack `prod` of `shop`. */
function provider(things: readonly CloudResource[]): Hcloud {
  return {
    prices: async () => prices,
    list: async (kind, selector) => {
      expect(selector).toBe("managed-by=gpuctl,gpuctl-project=shop,gpuctl-stack=prod");
      return things.filter((thing) => thing.kind === kind);
    },
    serverTypes: async () => [],
    remove: async () => {
      throw new Error("cost deletes nothing");
    },
  };
}

/** The example of the guide. */
const pricesYaml = /```yaml\n([\s\S]*?)```/.exec(
  readFileSync(new URL("../../docs/guides/cost.md", import.meta.url), "utf8"),
)![1]!;
const file = (text = pricesYaml) => validatePrices(parseYaml("prices.yaml", text));

const bench = (fields: { service?: string; command?: string; rate?: number; device?: string; endedAt?: string } = {}) => ({
  schemaVersion: 1,
  passed: true,
  reports: [
    {
      header: {
        command: fields.command ?? "gpuctl bench embed --environment prod --out bench.json",
        endedAt: fields.endedAt ?? "2026-11-20T10:00:00.000Z",
        service: fields.service ?? "embedder",
        unit: "texts",
        device: fields.device ?? "cuda",
        model: "m",
      },
      verdict: "VALID",
      throughput: { itemsPerSecond: fields.rate ?? 1000 },
    },
  ],
});

const request = (change: Partial<CostRequest> = {}): CostRequest => ({
  environments: [{ name: "prod", nodes: ["cpu-1", "gpu-1"], inventory }],
  prices: file().value,
  rates: measuredRates("bench.json", bench()) ?? [],
  usual: null,
  ...change,
});

describe("the cost of an environment", () => {
  const things = [
    resource({ kind: "servers", name: "shop-prod-cpu-1", type: "ccx33", labels: { "gpuctl-node": "cpu-1" }, status: "off" }),
    resource({ kind: "volumes", name: "models", sizeGb: 40 }),
    resource({ kind: "networks", name: "net" }),
  ];

  test("is the provider's things at its prices and the other nodes at those of prices.yaml", async () => {
    const report = await cost({ hcloud: provider(things), clock }, request());
    const [prod] = report.environments;
    expect(prod?.rows.map(({ what, price, from, note }) => [what, price?.monthly ?? null, from, note])).toEqual([
      ["server shop-prod-cpu-1", 120, "Hetzner Cloud API", "off, and billed all the same"],
      ["volume models", 2, "Hetzner Cloud API", null],
      ["gpu-box gpu-1", 219, "https://example.net/prices, 2026-11-01", null],
    ]);
    expect(prod?.total).toEqual({
      hourly: expect.closeTo(0.2 + 2 / 730 + 0.3) as number,
      monthly: 341,
      setup: 100,
      allTheTime: expect.closeTo(120 / 730 + 2 / 730 + 0.3) as number,
      unknown: 0,
    });
    expect(report.asOf).toBe("2026-11-21T12:00:00.000Z");
    expect(prod?.perMillion[0]?.price).toBeCloseTo(((122 / 730 + 0.3) / 3.6e6) * 1e6, 6);
  });

  test("without a token and without an entry is unknown, never nothing", async () => {
    const report = await cost({ hcloud: null, clock }, request({ prices: null }));
    const [prod] = report.environments;
    expect(prod?.rows.map(({ what, price }) => [what, price])).toEqual([
      ["node cpu-1", null],
      ["node gpu-1", null],
    ]);
    expect(prod?.total.unknown).toBe(2);
    expect(prod?.perMillion[0]?.price).toBeNull();
    expect(costText(report)).toContain("The provider was not asked for prices");
  });

  test("as text says where every price comes from and when it was read", async () => {
    const report = await cost({ hcloud: provider(things), clock }, request());
    await expect(`${costText(report)}\n`).toMatchFileSnapshot("../golden/cost/report.txt");
  });

  test("is not added up over two currencies", async () => {
    const dollars = file(pricesYaml.replace("EUR", "USD")).value;
    await expect(cost({ hcloud: provider([]), clock }, request({ prices: dollars }))).rejects.toThrow(
      "prices.yaml is in USD, and the provider's prices are in EUR",
    );
  });
});

describe("GPU against CPU hosts", () => {
  test("the duty cycle at which a GPU host costs what CPU hosts cost for the same work", async () => {
    const { comparisons } = await cost({ hcloud: provider([]), clock }, request({ rates: [] }));
    // A CPU host that runs all month costs 120, not 730 x 0.20: 219 / 120 hosts do 91.25 a second, 9.1 % of 1000.
    expect(comparisons).toEqual([
      {
        counted: "embeddings",
        gpu: "gpu-box",
        cpu: "cpu-box",
        perSecond: expect.closeTo(91.25) as number,
        duty: expect.closeTo(0.09125) as number,
        cpuHosts: 20,
      },
    ]);
  });

  test("at the break-even both cost the same; below it CPU hosts are cheaper, above it the GPU", () => {
    const some = fc.double({ min: 0.01, max: 1e4, noNaN: true });
    fc.assert(
      fc.property(
        some,
        some,
        some,
        some,
        fc.double({ min: 0.01, max: 100, noNaN: true }),
        (gpuPrice, gpuRate, cpuPrice, cpuRate, factor) => {
          const { perSecond } = breakEven({ hourly: gpuPrice, perSecond: gpuRate }, { hourly: cpuPrice, perSecond: cpuRate });
          const cpuCost = (load: number): number => (load / cpuRate) * cpuPrice;
          expect(cpuCost(perSecond) / gpuPrice).toBeCloseTo(1, 6);
          expect(cpuCost(perSecond * factor) > gpuPrice * 1.000001).toBe(factor > 1.000001);
        },
      ),
    );
  });

  test("a month is billed at its own price, where its hours cost more; with the fake provider's cap of 600 hours too", () => {
    expect(allTheTime({ hourly: 0.2, monthly: 120 })).toBeCloseTo(120 / 730);
    expect(allTheTime({ hourly: 0.2, monthly: 200 })).toBe(0.2);
    const type = catalogue().serverTypes.find(({ name }) => name === "ccx33")!;
    const { price_hourly: hour, price_monthly: month } = type.prices[0]!;
    expect(allTheTime({ hourly: Number(hour.net), monthly: Number(month.net) })).toBeCloseTo((0.2 * 600) / 730);
  });

  test("a million at a rate costs the hours that it takes", () => {
    expect(perMillion(3.6, 1000)).toBeCloseTo(1);
  });
});

describe("prices.yaml", () => {
  const problems = (text: string): string[] => file(text).problems.map(({ message }) => message);

  test("the one of the guide is right", () => {
    expect(file().problems).toEqual([]);
  });

  test("an entry needs a source, a date and one price, and a node has one entry", () => {
    const text = pricesYaml
      .replace("    source: https://example.net/prices\n", "")
      .replace("date: 2026-11-01", "date: last week")
      .replace(/ {4}monthly: 219.*\n/, "")
      .replace(
        "hcloud: { type: ccx33, location: fsn1 }",
        "hcloud: { type: ccx33, location: fsn1 }\n    hourly: 1\n    nodes: [prod/gpu-1]",
      );
    expect(problems(text)).toEqual([
      'missing key "source"',
      "gpu-box has no price",
      'expected a date such as 2026-11-21, found "last week"',
      "the price of a type of Hetzner Cloud is read from its API",
      "prod/gpu-1 is already a gpu-box",
    ]);
  });

  test.each([
    ["monthly: 219", "monthly: 219 EUR", "expected an amount without currency, such as 212.30, found"],
    ["nodes: [prod/gpu-1]", "nodes: [gpu-1]", "expected environment/node, such as prod/gpu-1"],
    ["currency: EUR", "currency: €", "expected a currency such as EUR"],
    ["rates: { embeddings: 50 }", "rates: { embeddings: 0 }", "expected how many a second, more than 0"],
  ])("%s is right, %s is not", (right, wrong, message) => {
    expect(problems(pricesYaml.replace(right, wrong)).join("\n")).toContain(message);
  });
});

describe("results of benchmarks", () => {
  test("count for the environment that their command names, the newest of each kind", () => {
    const rates = [
      ...(measuredRates("a", bench({ rate: 10 })) ?? []),
      ...(measuredRates("b", bench({ rate: 20, endedAt: "2026-11-21T10:00:00.000Z" })) ?? []),
      ...(measuredRates("c", bench({ rate: 5, service: "reranker", command: "gpuctl bench rerank -e prod" })) ?? []),
      ...(measuredRates("d", bench({ rate: 99, command: "gpuctl bench embed" })) ?? []),
    ];
    const newest = (environment: string, usual: string | null): unknown[] =>
      newestRates(rates, environment, usual).map(({ counted, perSecond }) => [counted, perSecond]);
    expect(newest("prod", "local")).toEqual([
      ["embeddings", 20],
      ["reranks", 5],
    ]);
    expect(newest("local", "local")).toEqual([["embeddings", 99]]);
    expect(newest("other", null)).toEqual([]);
  });

  test("of an address, of the index and of nothing count for nobody", () => {
    expect(measuredRates("a", bench({ command: "gpuctl bench embed --url http://10.0.0.1:8001" }))).toEqual([]);
    expect(measuredRates("a", bench({ service: "index" }))).toEqual([]);
    expect(measuredRates("a", bench({ rate: 0 }))).toEqual([]);
    expect(measuredRates("a", { reports: [] })).toBeNull();
  });
});

describe("what is asked about", () => {
  const project = `version: 1
project: shop
services: { index: {} }
environments:
  local: { target: process }
  prod: { target: compose, inventory: file inventory.json }
`;
  const load = (files: Record<string, string>, environment?: string) => ({
    files: new MemoryConfigFiles({ "/p/gpuctl.yaml": project, ...files }),
    env: {},
    cwd: "/p",
    ...(environment === undefined ? {} : { environment }),
  });
  const warnings: string[] = [];
  const flags = {
    prices: undefined,
    bench: undefined,
    found: async () => ["/p/bench-1.json"],
    warn: (text: string) => void warnings.push(text),
  };

  test("files that lie beside gpuctl.yaml are found; an environment that cannot be read is left out, and said", async () => {
    const found = await costRequest(load({ "/p/prices.yaml": pricesYaml, "/p/bench-1.json": JSON.stringify(bench()) }), flags);
    expect(found.environments.map(({ name }) => name)).toEqual(["local"]);
    expect(warnings).toEqual(["environment prod is left out: there is no inventory inventory.json"]);
    expect(Object.keys(found.prices?.hosts ?? {})).toEqual(["gpu-box", "cpu-box"]);
    expect(found.rates).toHaveLength(1);
  });

  test("what a benchmark itself calls INVALID counts for nothing, and is said", async () => {
    const invalid = JSON.stringify(bench()).replace('"VALID"', '"INVALID"');
    warnings.length = 0;
    const { rates } = await costRequest(load({ "/p/bench-1.json": invalid }, "local"), flags);
    expect(rates).toEqual([]);
    expect(warnings).toEqual(["/p/bench-1.json: its measurement of embeddings is INVALID, and is left out"]);
  });

  test("what was named must be there and right", async () => {
    await expect(costRequest(load({}, "prod"), flags)).rejects.toThrow("there is no inventory inventory.json");
    await expect(costRequest(load({}, "nowhere"), flags)).rejects.toThrow('there is no environment "nowhere"');
    await expect(costRequest(load({}), { ...flags, prices: "p.yaml" })).rejects.toThrow("there is no file p.yaml");
    await expect(costRequest(load({ "/p/x.json": "{}" }), { ...flags, bench: ["x.json"] })).rejects.toThrow(
      "/p/x.json is no result of a benchmark",
    );
    await expect(costRequest(load({ "/p/prices.yaml": "version: 2\n" }), flags)).rejects.toThrow("/p/prices.yaml:1:10");
  });
});
