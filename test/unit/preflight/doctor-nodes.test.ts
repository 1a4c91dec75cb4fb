import { describe, expect, test } from "vitest";
import { inspectNodes } from "../../../cli/src/app/doctor-nodes.js";
import { doctorReportText } from "../../../cli/src/app/render/doctor-text.js";
import type { EnvironmentConfig, ServiceConfig } from "../../../cli/src/domain/config/resolved.js";
import { TargetUnreachable } from "../../../cli/src/domain/errors.js";
import type { NodeFacts } from "../../../cli/src/domain/preflight/facts.js";
import type { GpuContainerProbe, GpuContainerResult } from "../../../cli/src/domain/preflight/gpu-container.js";
import { nodeNames, nodeNeeds, type Load } from "../../../cli/src/domain/preflight/needs-of.js";
import { mib } from "../../../cli/src/domain/units.js";
import type { NodeInspector, NodeLoads } from "../../../cli/src/ports/node-inspector.js";
import { projectConfig } from "../../support/project-config.js";
import { factsOf, printed } from "./captures.js";

const t4 = "GPU-5a1c3d0e-7b52-4f0a-9c1e-0d6a1f2b3c4d";
const signal = new AbortController().signal;
const models = [
  { name: "bge-m3", bytes: 2.3e9, problem: null },
  { name: "reranker-v2", bytes: 1.1e9, problem: null },
];

function service(name: "embedder" | "reranker", changes: Partial<ServiceConfig> = {}): ServiceConfig {
  return {
    service: name,
    port: name === "embedder" ? 8001 : 8002,
    model: name === "embedder" ? "bge-m3" : "reranker-v2",
    device: { prefer: "cuda", require: "cuda", proof: "vram" },
    vramBudget: mib(3000),
    slo: null,
    env: {},
    secrets: { API_KEYS: { env: "KEYS" } },
    benchmarkGate: null,
    gpu: t4,
    ...changes,
  };
}

function environment(changes: Partial<EnvironmentConfig> = {}): EnvironmentConfig {
  return {
    ...projectConfig("/p"),
    project: "shop",
    environment: "production",
    target: "compose",
    bind: "10.0.0.5",
    services: { reranker: service("reranker") },
    targetSettings: { target: "compose", nodes: { "gpu-1": { host: "10.0.0.5" } }, allow: ["10.0.0.0/24"] },
    ...changes,
  };
}

/** Nodes as captures show them; containers end as a test says. */
class Nodes implements NodeInspector {
  readonly tried: Omit<GpuContainerProbe, "name" | "look">[] = [];
  images: readonly string[] = ["services:1"];
  result: GpuContainerResult = { code: 0, stdout: `GPU 0: Tesla T4 (UUID: ${t4})\n`, stderr: "" };
  readonly repaired: string[] = [];
  #facts: Readonly<Record<string, NodeFacts>>;

  constructor(facts: Readonly<Record<string, NodeFacts>> = { "gpu-1": factsOf("t4-ubuntu") }) {
    this.#facts = facts;
  }

  async inspect(node: string): Promise<NodeFacts> {
    const facts = this.#facts[node];
    if (facts === undefined)
      throw new TargetUnreachable(`${node} cannot be reached`, { because: "no route to host", nextSteps: [`ssh ${node}`] });
    return facts;
  }

  async repair(node: string, argv: readonly string[]): Promise<string | null> {
    this.repaired.push(argv.join(" "));
    // What was mended is found mended: the next look shows a good node.
    this.#facts = { ...this.#facts, [node]: factsOf("t4-ubuntu") };
    return argv.includes("-pm") ? "it is not permitted" : null;
  }

  async hasImage(_node: string, image: string): Promise<boolean> {
    return this.images.includes(image);
  }

  async tryGpu(_node: string, wanted: Omit<GpuContainerProbe, "name" | "look">): ReturnType<NodeInspector["tryGpu"]> {
    this.tried.push(wanted);
    return { probe: { ...wanted, name: "p", look: "nvidia-smi" }, result: this.result };
  }
}

const gpuImage = "services:1";

const inspect = async (
  nodes: Nodes,
  config = environment(),
  image: string | null = gpuImage,
): Promise<Record<string, string>> => {
  const [report] = await inspectNodes({ config, nodes, models, gpuImage: image, repair: false, signal });
  return Object.fromEntries((report?.findings ?? []).map(({ code, level }) => [code, level]));
};

test("a good node is good, down to a container that sees its GPU", async () => {
  const nodes = new Nodes();
  const found = await inspect(nodes);
  expect(Object.values(found).filter((level) => level !== "ok")).toEqual([]);
  expect(found["gpu-container"]).toBe("ok");
  expect(nodes.tried).toEqual([{ image: "services:1", gpu: t4, device: `nvidia.com/gpu=${t4}`, as: "user" }]);
});

test("every node has its own report; one that cannot be reached does not hide the others", async () => {
  const config = environment({
    targetSettings: { target: "compose", nodes: { "gpu-1": { host: "a" }, "gpu-2": { host: "b" } } },
  });
  const reports = await inspectNodes({ config, nodes: new Nodes(), models, gpuImage, repair: false, signal });
  expect(reports.map(({ node, facts }) => [node, facts !== null])).toEqual([
    ["gpu-1", true],
    ["gpu-2", false],
  ]);
  expect(reports[1]?.findings).toEqual([
    {
      group: "machine",
      level: "blocker",
      code: "node-unreachable",
      what: "gpu-2 cannot be reached",
      because: "no route to host",
      nextSteps: ["ssh gpu-2"],
    },
  ]);
  const text = doctorReportText({ findings: [], nodes: reports }, "count");
  expect(text).toMatch(/^this machine\n/);
  expect(text).toMatch(/\n\nnode gpu-2\n\nmachine\n {2}BLOCKER gpu-2 cannot be reached\n/);
});

test("a machine without nodes has the report that it always had", () => {
  expect(doctorReportText({ findings: [], nodes: [] }, "count")).toBe("no blockers, no warnings.");
});

test("a refusal stops those who require a GPU and warns those who prefer one", async () => {
  const nodes = new Nodes();
  nodes.result = { code: 125, stdout: "", stderr: "docker: Error response from daemon: something new" };
  expect((await inspect(nodes))["gpu-container-failed"]).toBe("blocker");
  const preferring = environment({
    services: { reranker: service("reranker", { device: { prefer: "cuda", require: null, proof: "self" } }) },
  });
  expect((await inspect(nodes, preferring))["gpu-container-failed"]).toBe("warning");
});

test("without an image on the node nothing is started, which is a warning where a service requires its GPU, with what tries it", async () => {
  const nodes = new Nodes();
  nodes.images = [];
  const untried = async (image: string | null, require: "cuda" | null = "cuda"): Promise<unknown> => {
    const config = environment({
      services: { reranker: service("reranker", { device: { prefer: "cuda", require, proof: "vram" } }) },
    });
    const [report] = await inspectNodes({ config, nodes, models, gpuImage: image, repair: false, signal });
    return report?.findings.find(({ code }) => code === "gpu-container-untried");
  };
  const deploy = "gpuctl deploy, which tries it as soon as the image is there, before anything that runs is stopped";
  const pull = "docker pull services:1   # there, then gpuctl doctor again, which tries it";
  const what = "whether a GPU container starts was not tried";
  const because = "services:1 is not on the node yet";
  expect(await untried(gpuImage)).toMatchObject({ level: "warning", what, because, nextSteps: [pull, deploy] });
  expect(await untried(`sha256:${"7".repeat(64)}`)).toMatchObject({ level: "warning", nextSteps: [deploy] });
  expect(await untried(null)).toMatchObject({
    level: "warning",
    because: "no image is named in gpuctl.yaml or gpuctl.lock.json",
    nextSteps: [expect.stringContaining("gpuctl images push --device cuda"), deploy],
  });
  expect(await untried(gpuImage, null)).toMatchObject({ level: "ok", what: `${what}: ${because}` });
  expect(nodes.tried).toEqual([]);
});

test("where the next image is not there, or none is named, the one that runs is tried; a proxy's is not", async () => {
  const labels = (more: Readonly<Record<string, string>>): string =>
    Object.entries({ project: "shop", environment: "production", node: "gpu-1", ...more })
      .map(([key, value]) => `dev.gpuctl.${key}=${value}`)
      .join(",");
  const instance = { service: "reranker", instance: "reranker-r1-a", release: "r1-abc", slot: "a", fingerprint: "f" };
  const ps = [
    { ID: "1".repeat(64), Names: "proxy", Image: "caddy:2", Labels: labels({ role: "proxy" }), Ports: "" },
    { ID: "2".repeat(64), Names: "old", Image: "services:0", Labels: labels(instance), Ports: "" },
  ];
  const running = { "gpu-1": factsOf("t4-ubuntu", { "docker-ps": [0, ps.map((each) => JSON.stringify(each)).join("\n")] }) };
  for (const next of [gpuImage, null]) {
    const nodes = new Nodes(running);
    nodes.images = ["services:0", "caddy:2"];
    expect((await inspect(nodes, environment(), next))["gpu-container"]).toBe("ok");
    expect(nodes.tried.map(({ image }) => image)).toEqual(["services:0"]);
  }
});

test("no container is started for services on the CPU, nor for a GPU that has no CDI device", async () => {
  const nodes = new Nodes();
  await inspect(
    nodes,
    environment({ services: { reranker: service("reranker", { device: { prefer: "cpu", require: null, proof: "self" } }) } }),
  );
  await inspect(nodes, environment({ services: { reranker: service("reranker", { gpu: "GPU-elsewhere" }) } }));
  expect(nodes.tried).toEqual([]);
});

test("what a deploy would refuse for want of room doctor says too: by what the node says it lacks, of the images it would be given", async () => {
  const asked: unknown[] = [];
  const found = async (load: Load | null, config = environment()): Promise<readonly string[]> => {
    const of: NodeLoads["of"] = async (node, wants) => {
      asked.push([node, wants]);
      return load;
    };
    const [report] = await inspectNodes({ config, nodes: new Nodes(), loads: { of }, models, gpuImage, repair: false, signal });
    return (report?.findings ?? []).filter(({ code }) => code.startsWith("disk")).map(({ level, code }) => `${level} ${code}`);
  };
  // The node of the capture has 403 GB free.
  expect(await found({ imageBytes: 400e9, sentBytes: 0, modelBytes: 0 })).toEqual(["blocker disk-full"]);
  expect(await found({ imageBytes: 0, sentBytes: 0, modelBytes: 0 })).toEqual(["ok disk"]);
  expect(await found(null)).toEqual(["ok disk"]);
  const cpu = { prefer: "cpu", require: null, proof: "self" } as const;
  const services = { embedder: service("embedder"), reranker: service("reranker", { device: cpu }) };
  await found(null, environment({ services }));
  expect(asked.slice(-2)).toEqual([
    ["gpu-1", { devices: ["cuda"], models: ["reranker-v2"] }],
    ["gpu-1", { devices: ["cuda", "cpu"], models: ["bge-m3", "reranker-v2"] }],
  ]);
});

test("memory is asked for with the models of each service, and once more for one behind it on the CPU", async () => {
  const because = async (changes: Partial<ServiceConfig>, known = models): Promise<string | undefined> => {
    const little = new Nodes({
      "gpu-1": factsOf("t4-ubuntu", { memory: [0, "MemTotal: 32000000 kB\nMemAvailable: 1000 kB\n"] }),
    });
    const config = environment({ services: { reranker: service("reranker", changes) } });
    const [report] = await inspectNodes({ config, nodes: little, models: known, gpuImage, repair: false, signal });
    return report?.findings.find(({ code }) => code === "memory-low")?.because;
  };
  const said = (size: string, models: string): string =>
    `1 service needs about ${size} beside what runs now: processes and ${models}`;
  // 2560 MiB and 1.1 GB; with a second process of 1024 MiB and a second copy; without a size.
  expect(await because({})).toBe(said("3.5 GiB", "their models"));
  expect(await because({ fallback: { kind: "cpu" } })).toBe(
    said("5.5 GiB", "their models, those of reranker twice for fallback: cpu"),
  );
  expect(await because({}, [])).toBe(said("2.5 GiB", "their models; a model whose size is not known is not counted"));
});

test("`auto` is a GPU where the node has one, and the CPU elsewhere", async () => {
  const auto = environment({
    services: {
      reranker: service("reranker", { device: { prefer: "auto", require: null, proof: "self" }, gpu: null, vramBudget: null }),
    },
  });
  const nodes = new Nodes({ "gpu-1": factsOf("t4-ubuntu") });
  expect(await inspect(nodes, auto)).toMatchObject({ "gpu-container": "ok", "cdi-devices": "ok" });
  expect(await inspect(new Nodes({ "gpu-1": factsOf("bare-ubuntu") }), auto)).toMatchObject({
    "driver-missing": "warning",
    "cdi-spec-missing": "warning",
  });
  const without = await inspect(new Nodes({ "gpu-1": factsOf("debian-docker") }), auto);
  expect(without["no-gpu"]).toBe("ok");
  expect(without).not.toHaveProperty("cdi-devices");
});

test("what a node needs is what its own services need", () => {
  const services = {
    embedder: service("embedder", { nodes: ["gpu-1"] }),
    reranker: service("reranker", { nodes: ["gpu-2"], secrets: {} }),
  };
  const nodes = { "gpu-1": { host: "a" }, "gpu-2": { host: "b" } };
  const config = environment({
    services,
    targetSettings: { target: "compose", nodes, dataDirectory: "/data", tls: { mode: "off" } },
  });
  expect(nodeNames(config)).toEqual(["gpu-1", "gpu-2"]);
  expect(nodeNeeds(config, "gpu-2", { imageBytes: null, sentBytes: 0, modelBytes: 1 })).toEqual({
    node: "gpu-2",
    services: [
      {
        name: "reranker",
        port: 8002,
        device: { prefer: "cuda", require: "cuda", proof: "vram" },
        gpu: t4,
        vramMiB: 3000,
        modelBytes: null,
        cpuFallback: false,
        keys: false,
      },
    ],
    entrances: [],
    bind: "10.0.0.5",
    allow: null,
    ingress: false,
    tls: false,
    imageBytes: null,
    sentBytes: 0,
    modelBytes: 1,
    dataDirectory: "/data",
    own: ["label=dev.gpuctl.project=shop", "label=dev.gpuctl.environment=production"],
  });
  expect(nodeNames({ ...config, target: "process", targetSettings: { target: "process" } })).toEqual([]);
});

describe("safe repairs", () => {
  const smi = printed("t4-ubuntu", "smi-query").replace("Enabled", "Disabled");
  const neglected = (): Nodes => new Nodes({ "gpu-1": factsOf("t4-ubuntu", { "smi-query": [0, smi], holds: [0, ""] }) });
  const reports = (nodes: Nodes, repair: boolean): ReturnType<typeof inspectNodes> =>
    inspectNodes({ config: environment(), nodes, models, gpuImage, repair, signal });

  test("are only counted, and listed on request, until they are confirmed", async () => {
    const nodes = neglected();
    const found = await reports(nodes, false);
    expect(nodes.repaired).toEqual([]);
    expect(doctorReportText({ findings: [], nodes: found }, "count")).toMatch(
      /2 safe repairs can be made: gpuctl doctor --fix lists them\.$/,
    );
    expect(doctorReportText({ findings: [], nodes: found }, "list")).toMatch(
      /\n\nrepairs\n {2}would {3}turn persistence mode on\n[^]*sudo -n nvidia-smi -pm 1\n[^]*Nothing was changed yet: gpuctl doctor --fix --confirm$/,
    );
  });

  test("are made one by one when confirmed, whatever became of the one before, and the report is that of afterwards", async () => {
    const nodes = neglected();
    const [report] = await reports(nodes, true);
    expect(nodes.repaired).toEqual([
      "sudo -n nvidia-smi -pm 1",
      "sudo -n apt-mark hold libnvidia-compute-580-server linux-modules-nvidia-580-server-open-generic nvidia-utils-580-server",
    ]);
    expect(report?.fixes.map(({ mends, outcome }) => [mends, outcome])).toEqual([
      ["persistence-off", { state: "failed", because: "it is not permitted" }],
      ["driver-not-held", { state: "done" }],
    ]);
    expect(report?.findings.filter(({ level }) => level !== "ok")).toEqual([]);
    const text = doctorReportText({ findings: [], nodes: report === undefined ? [] : [report] }, "list");
    expect(text).toContain("  FAILED  turn persistence mode on\n          because it is not permitted\n");
    expect(text).not.toContain("Nothing was changed");
  });

  test("are written into the audit, and stay made where that cannot be", async () => {
    const entries: unknown[] = [];
    const warnings: string[] = [];
    const request = { config: environment(), models, gpuImage, repair: true, signal };
    const audit = { append: async (entry: unknown): Promise<void> => void entries.push(entry) };
    await inspectNodes({ ...request, nodes: neglected(), audit });
    await inspectNodes({ ...request, nodes: neglected(), audit, repair: false });
    const detail = "gpu-1: turn persistence mode on (failed: it is not permitted); gpu-1: hold 3 driver packages";
    expect(entries).toEqual([{ action: "doctor", release: null, detail }]);
    const closed = { append: async (): Promise<void> => Promise.reject(new Error("the disk is full")) };
    const progress = { emit: (event: object): void => void warnings.push("text" in event ? String(event.text) : "") };
    const [report] = await inspectNodes({ ...request, nodes: neglected(), audit: closed, progress });
    expect(report?.fixes.map(({ outcome }) => outcome.state)).toEqual(["failed", "done"]);
    expect(warnings).toEqual(["the audit was not written: the disk is full"]);
  });

  test("a good node is left alone even when repairs are confirmed", async () => {
    const nodes = new Nodes();
    const found = await reports(nodes, true);
    expect(nodes.repaired).toEqual([]);
    expect(doctorReportText({ findings: [], nodes: found }, "list")).toMatch(/There is nothing that can be repaired safely\.$/);
  });
});
