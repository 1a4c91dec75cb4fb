import { beforeEach, describe, expect, it } from "vitest";
import { Front, type FrontParts } from "../../../../../cli/src/adapters/targets/compose/front.js";
import { HostCommands } from "../../../../../cli/src/adapters/targets/compose/host-commands.js";
import type { HostHttp } from "../../../../../cli/src/adapters/targets/compose/host-http.js";
import { readHostView, type HostView } from "../../../../../cli/src/adapters/targets/compose/observation.js";
import { observationOf } from "../../../../../cli/src/adapters/targets/compose/observed-node.js";
import { ensureProxies } from "../../../../../cli/src/adapters/targets/compose/proxy.js";
import { NodeRehearsal } from "../../../../../cli/src/adapters/targets/compose/rehearsal.js";
import { companionLabels, configLabel } from "../../../../../cli/src/domain/compose/labels.js";
import type { ComposeNode } from "../../../../../cli/src/domain/compose/node.js";
import { companions } from "../../../../../cli/src/domain/compose/render-compose.js";
import type { RehearsedStep } from "../../../../../cli/src/domain/rehearsal.js";
import type { Clock, Command, CommandResult, Lease, RemoteHost } from "../../../../../cli/src/ports.js";
import { cases, nodeWith, redisImage } from "../../../compose/nodes.js";
import { mib } from "../../../../../cli/src/domain/units.js";

const lease: Lease = { token: 1, check: () => Promise.resolve(), release: () => Promise.resolve() };
const no = (): never => {
  throw new Error("a dry run must not come here");
};
const front = new Front({ certificate: null } as FrontParts);
const redis = { image: redisImage, memory: mib(256) };

/** What stands beside the instances of a host, made from what `node` says. */
function standing(node: ComposeNode, state = "running"): HostView {
  const containers = companions(node).map(({ role, hash }, position) => ({
    Id: `${position}`.repeat(64),
    State: { Status: state },
    Config: { Labels: { ...companionLabels(node, role), [configLabel]: hash } },
  }));
  return readHostView(["btime 1763600000", "up 5000 boot-1", "docker 0 ok", JSON.stringify(containers)].join("\n"));
}

const others: readonly (readonly [string, Partial<ComposeNode>])[] = [
  ["another port", { services: nodeWith().services.map((each) => ({ ...each, port: 9001 })) }],
  ["one service more", { services: cases["one-gpu"]!.services }],
  ["another address", { bind: "10.0.0.9" }],
  ["another image of Caddy", { proxyImage: `registry.example.net/gpuctl/caddy@sha256:${"5".repeat(64)}` }],
];

describe("what stands before the instances", () => {
  it.each(others)("has to be made anew for %s, and that is seen before it is done", async (_, changes) => {
    const drift = await front.drift(nodeWith(changes), standing(nodeWith()));
    expect(drift.restarts).toEqual(["proxy of gpu-1"]);
    const settings = { ...nodeWith(), services: [{ service: "embedder", port: 8001, cpuFallback: false }] } as const;
    const kept = { hostMemory: mib(1), services: [], images: [] };
    expect(observationOf(standing(nodeWith()), null, settings, kept, drift).manager).toMatchObject({
      state: "running",
      restarts: ["proxy of gpu-1"],
    });
  });

  it("takes over addresses that are allowed without that, as it does another Redis, and what does not run is no loss", async () => {
    expect((await front.drift(nodeWith({ allow: ["10.0.0.0/8"] }), standing(nodeWith()))).restarts).toEqual([]);
    expect(
      (await front.drift(nodeWith({ redis }), standing(nodeWith({ redis: { ...redis, memory: mib(64) } })))).restarts,
    ).toEqual([]);
    expect((await front.drift(nodeWith({ bind: "10.0.0.9" }), standing(nodeWith(), "exited"))).restarts).toEqual([]);
  });

  it("lacks a Redis that does not run, which is no loss of the proxy", () => {
    const node = nodeWith({ redis });
    const settings = { ...node, services: [{ service: "embedder", port: 8001, cpuFallback: false }] } as const;
    const kept = { hostMemory: mib(1), services: [], images: [] };
    const managerIn = (view: HostView): unknown => observationOf(view, null, settings, kept).manager;
    const whole = standing(node);
    const without = (state: string): HostView => ({
      ...whole,
      containers: whole.containers.map((each) =>
        each.labels["dev.gpuctl.role"] === "redis" ? { ...each, state } : each,
      ) as never,
    });
    expect(managerIn(whole)).not.toHaveProperty("lacks");
    expect(managerIn(without("exited"))).toMatchObject({ state: "running", lacks: "the redis on gpu-1 is exited" });
    expect(managerIn(standing(nodeWith()))).toMatchObject({ state: "running", lacks: "no redis on gpu-1" });
  });

  it("names the ingress too", async () => {
    const edge = { ...cases["ingress"]!, tls: { mode: "off" } as const };
    const other = { ...edge, ingress: { ...edge.ingress!, port: 8443 } };
    expect((await front.drift(other, standing(edge))).restarts).toEqual(["ingress of edge"]);
  });
});

describe("a dry run", () => {
  const steps: RehearsedStep[] = [];
  beforeEach(() => void steps.splice(0));

  /** A host whose proxy runs as a Compose file of some hash says, and was told the configuration `hash`. @param more  what else stands there */
  const rehearsing = (made: string, more: readonly string[] = []): HostCommands => {
    const container = `${"f".repeat(64)} 2026-11-20T10:00:00Z`;
    const stdout = [`hash true ${made} ${container}`, "hash", `true ${made} ${container}`].join("\n");
    const host = {
      name: "gpu-1",
      run: ({ argv }: Command): Promise<CommandResult> => {
        const there = more.filter((name) => argv.includes(name)).map((name) => `${name}\n`);
        const said = argv.some((arg) => arg.endsWith("/proxy-told")) ? stdout : there.join("");
        return Promise.resolve({ code: 0, signal: null, stdout: said, stderr: "" });
      },
    };
    return new HostCommands({
      node: "gpu-1",
      root: "/var/lib/gpuctl/shop/prod",
      connect: () => Promise.resolve(host as unknown as RemoteHost),
      guard: no,
      rehearsal: new NodeRehearsal("gpu-1", (step) => void steps.push(step)),
    });
  };
  const asked = async (commands: HostCommands, http: HostHttp["upstreams"] = no): Promise<void> => {
    const parts = { commands, http: { upstreams: http } as unknown as HostHttp, clock: { monotonic: () => 0 } as Clock };
    await ensureProxies(parts, nodeWith(), lease);
    await ensureProxies(parts, nodeWith(), lease);
  };

  it("says that the proxy restarts, and says it once however often it is asked for", async () => {
    await asked(rehearsing("0".repeat(64)));
    expect(steps.map((step) => (step.kind === "note" ? step.text : step.kind))).toEqual([
      "command",
      "the proxy of gpu-1 restarts: connections are refused for about a second",
      "wait      until the proxy answers, and write down what it was told",
    ]);
  });

  it("ends what gpuctl.yaml has no more use for, and nothing else", async () => {
    const others = ["gpuctl_shop_prod_redis", "gpuctl_shop_other_redis"];
    const commands = rehearsing(companions(nodeWith())[0]!.hash, others);
    const parts = { commands, http: { upstreams: () => Promise.resolve([]) } as unknown as HostHttp, clock: {} as Clock };
    await ensureProxies(parts, nodeWith({ redis }), lease).catch(() => undefined);
    expect(steps.filter((step) => step.kind === "command" && step.argv.join(" ").includes("docker rm"))).toEqual([]);
    steps.splice(0);
    for (const _ of ["at first", "and again"]) await ensureProxies(parts, nodeWith(), lease);
    const done = steps.flatMap((step) => (step.kind === "command" ? [step.argv.join(" ")] : []));
    expect(done.filter((line) => line.includes("docker rm"))).toEqual([
      expect.stringMatching(/docker rm --force "\$@" >\/dev\/null gpuctl gpuctl_shop_prod_redis$/),
    ]);
  });

  it("tells the proxy of a configuration that it would have written, once, and of none that is there", async () => {
    const commands = rehearsing(companions(nodeWith())[0]!.hash);
    const answers = (): Promise<never[]> => Promise.resolve([]);
    await asked(commands, answers);
    expect(steps).toEqual([]);
    const file = { path: "/var/lib/gpuctl/shop/prod/proxy/Caddyfile", content: "other", mode: 0o644, owner: "0:0" };
    await commands.write(lease, file);
    steps.splice(0);
    await asked(commands, answers);
    const told = steps.flatMap((step) => (step.kind === "command" ? [step.argv.join(" ")] : []));
    expect(told).toHaveLength(2);
    expect(told[0]).toMatch(/docker exec "\$1" caddy reload .* gpuctl gpuctl_shop_prod_proxy /s);
    expect(told[1]).toMatch(/\/proxy-told /);
  });
});
