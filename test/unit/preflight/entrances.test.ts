import { describe, expect, test } from "vitest";
import type { EnvironmentConfig, ServiceConfig } from "../../../cli/src/domain/config/resolved.js";
import type { ComposeSettings } from "../../../cli/src/domain/compose/node-settings.js";
import type { DoctorFinding } from "../../../cli/src/domain/doctor/finding.js";
import { judgeNode } from "../../../cli/src/domain/preflight/judge.js";
import type { NodeNeeds } from "../../../cli/src/domain/preflight/needs.js";
import { nodeNeeds } from "../../../cli/src/domain/preflight/needs-of.js";
import { projectConfig } from "../../support/project-config.js";
import { factsOf, type Changes } from "./captures.js";

const acme = { mode: "acme", domain: "ai.example.net" } as const;
const listening = (port: number): Changes => ({
  listeners: [0, `LISTEN 0 511 0.0.0.0:${port.toString()} 0.0.0.0:* users:(("nginx",pid=733,fd=6))\n`],
});

/** An embedder on two nodes, both on the internet, of which the first may have the ingress. */
function needsOn(node: "gpu-1" | "gpu-2", settings: Partial<ComposeSettings>, keys = true): NodeNeeds {
  const embedder: ServiceConfig = {
    service: "embedder",
    port: 8001,
    model: "m3",
    device: { prefer: "cpu", require: null, proof: "self" },
    vramBudget: null,
    slo: null,
    env: {},
    secrets: keys ? { API_KEYS: { env: "KEYS" } } : {},
    benchmarkGate: null,
  };
  const nodes = { "gpu-1": { host: "203.0.113.6" }, "gpu-2": { host: "203.0.113.7" } };
  const config: EnvironmentConfig = {
    ...projectConfig("/p"),
    target: "compose",
    bind: "0.0.0.0",
    services: { embedder },
    targetSettings: { target: "compose", nodes, ...settings },
  };
  return nodeNeeds(config, node, { imageBytes: null, sentBytes: null, modelBytes: null });
}

const find = (needs: NodeNeeds, code: string, changes: Changes = {}): readonly DoctorFinding[] =>
  judgeNode(factsOf("t4-ubuntu", { "docker-ps": [0, ""], listeners: [0, ""], ...changes }), needs).filter(
    (finding) => finding.code === code,
  );

test("an ingress on a port that the firewalls of the stack do not know is said, and may have been opened elsewhere", () => {
  const promised = { gpus: { expected: 0, product: null, memory: null }, ports: [8001], by: "stack prod" };
  const [found] = find({ ...needsOn("gpu-1", { ingress: { node: "gpu-1" }, tls: acme }), promised }, "port-not-admitted");
  expect(found).toMatchObject({ level: "warning", what: "the firewalls of the stack do not know ingress's port 443" });
  expect(find({ ...needsOn("gpu-1", {}), promised }, "port-not-admitted")).toEqual([]);
});

describe("TLS", () => {
  const ingress = { ingress: { node: "gpu-1" }, tls: acme };

  test("ends at the ingress: a node behind it is as open as without", () => {
    expect(needsOn("gpu-2", { tls: acme }, false).tls).toBe(true);
    expect(find(needsOn("gpu-2", { tls: acme }, false), "port-public")).toEqual([]);
    const [found] = find(needsOn("gpu-2", ingress, false), "port-public");
    expect(found).toMatchObject({ level: "blocker", because: expect.stringContaining("embedder has no API_KEYS") as string });
    expect(found?.nextSteps?.join()).not.toContain("the environment tls:");
  });

  test("is missing between the ingress and its nodes, which can be read there", () => {
    const [behind] = find(needsOn("gpu-2", ingress), "port-exposed");
    expect(behind?.because).toMatch(/can be reached by everybody.*; without TLS others can read keys on their way$/);
    const [own] = find(needsOn("gpu-2", { tls: acme }), "port-exposed");
    expect(own?.because).not.toContain("without TLS");
  });

  test("of the ingress is judged by what it speaks itself", () => {
    const because = (settings: Partial<ComposeSettings>): string =>
      find(needsOn("gpu-1", settings, false), "port-public")[0]?.because ?? "";
    expect(because({ ingress: { node: "gpu-1" } })).toContain("embedder and what is behind the ingress has no API_KEYS");
    expect(because(ingress)).toContain("and embedder has no API_KEYS");
  });
});

describe("ports beside those of services", () => {
  const taken = (needs: NodeNeeds, port: number): readonly string[] =>
    find(needs, "port-taken", listening(port)).map(({ what, nextSteps }) => `${what}: ${nextSteps?.at(-1) ?? ""}`);

  test("those of the ingress are free or somebody's, at the port that it has", () => {
    expect(taken(needsOn("gpu-1", { ingress: { node: "gpu-1" } }), 80)).toEqual([
      "ingress on 0.0.0.0:80 is taken: end it, or choose another port of the ingress in gpuctl.yaml",
    ]);
    expect(taken(needsOn("gpu-1", { ingress: { node: "gpu-1", port: 8443 }, tls: acme }), 8443)).toHaveLength(1);
    expect(taken(needsOn("gpu-1", { ingress: { node: "gpu-1" }, tls: acme }), 443)).toHaveLength(1);
    expect(taken(needsOn("gpu-2", { ingress: { node: "gpu-1" }, tls: acme }), 443)).toEqual([]);
  });

  test("ACME's challenge needs port 80 wherever it is published", () => {
    expect(taken(needsOn("gpu-2", { tls: acme }), 80)).toEqual([expect.stringContaining("challenge on 0.0.0.0:80 is taken")]);
    expect(taken(needsOn("gpu-1", { ingress: { node: "gpu-1" }, tls: acme }), 80)).toHaveLength(1);
    expect(taken(needsOn("gpu-1", { tls: { mode: "files", certificate: "c", key: "k" } }), 80)).toEqual([]);
  });

  test("an ingress that the allow-list is for is exposed until rules refuse its own port, also one without services", () => {
    const needs = {
      ...needsOn("gpu-1", { ingress: { node: "gpu-1" }, tls: acme, allow: ["10.0.0.0/24"] }),
      services: [],
    };
    expect(find(needs, "port-exposed")[0]?.nextSteps?.join()).toContain("--ctorigdstport 443 ");
    const rule = (port: number): Changes => ({
      "docker-user": [0, `-A DOCKER-USER -p tcp -m conntrack --ctorigdstport ${port.toString()} -j DROP\n`],
    });
    expect(find(needs, "port-exposed", rule(8001))).toHaveLength(1);
    expect(find(needs, "port-exposed", rule(443))).toEqual([]);
  });

  test("an ingress with TLS and keys that nobody restricts is there for everybody", () => {
    const needs = { ...needsOn("gpu-1", { ingress: { node: "gpu-1" }, tls: acme }), services: [] };
    expect([...find(needs, "port-exposed"), ...find(needs, "port-public")]).toEqual([]);
  });

  test("who is allowed on a node behind an ingress includes the ingress", () => {
    const settings = { ingress: { node: "gpu-1" }, allow: ["10.0.0.0/24"] };
    expect(needsOn("gpu-2", settings).allow).toEqual(["10.0.0.0/24", "203.0.113.6"]);
    expect(needsOn("gpu-1", settings).allow).toEqual(["10.0.0.0/24"]);
  });
});
