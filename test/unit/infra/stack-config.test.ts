import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { priceList } from "../../../infra/prices.js";
import { hostScript } from "../../../infra/scripts.js";
import { checkStack, StackInvalid, type StackProblem } from "../../../infra/lib/stack-config.js";
import { exampleConfig, exampleStacks, type ExampleStack } from "../../support/infra/stack-under-mocks.js";

const secrets = { k3sToken: true, hcloudToken: true };

describe("the configuration of a stack", () => {
  it.each(exampleStacks)("of the example %s is right", (stack) => {
    expect(problemsOf(raw(stack))).toEqual([]);
  });

  it("names the key of each problem, says what would be right, and all of them at once", () => {
    const problems = problemsOf({
      project: "Shop",
      operators: { addresses: ["10.0.0.0/33"], keys: ["not a key"] },
      nodes: { "gpu-1": { kind: "adopted", host: "203.0.113.20", hostKey: "ssh-rsa AAAA", port: 0 } },
      servicePorts: [],
    });
    expect(problems.map(({ key }) => key).sort()).toEqual([
      "gpuctl:nodes.gpu-1.hostKey",
      "gpuctl:nodes.gpu-1.port",
      "gpuctl:operators.addresses[0]",
      "gpuctl:operators.keys[0]",
      "gpuctl:project",
      "gpuctl:servicePorts",
    ]);
    expect(messageOf(problems, "gpuctl:nodes.gpu-1.hostKey")).toContain("gpuctl host add NAME --host HOST --stack STACK");
  });

  it("shows open SSH, a missing token and two hosts of one number also when other keys are wrong", () => {
    const server = { kind: "hcloud", serverType: "cx33", location: "fsn1", number: 20 };
    const wrong = {
      ...raw("hetzner-cpu"),
      operators: { ...operators(), addresses: ["nonsense!", "0.0.0.0/0"] },
      servicePorts: [0],
      nodes: { a: { ...server, location: undefined }, b: server, "gpu-1": { kind: "hcloud", serverType: "a100" } },
    };
    expect(keysOf(problemsOf(wrong, { ...secrets, hcloudToken: false }))).toEqual([
      "gpuctl:nodes.a.location",
      "gpuctl:nodes.b.number",
      "gpuctl:nodes.gpu-1",
      "gpuctl:nodes.gpu-1.location",
      "gpuctl:operators.addresses[0]",
      "gpuctl:operators.addresses[1]",
      "gpuctl:servicePorts[0]",
      "hcloud:token",
    ]);
  });

  it("says nothing that is only so because something else is wrong", () => {
    const keys = (config: Record<string, unknown>) => keysOf(problemsOf(config));
    const robot = raw("robot-gex");
    expect(keys({ ...robot, network: { range: "ten" } })).toEqual(["gpuctl:network.range"]);
    expect(keys({ ...robot, operators: "me" })).toEqual(["gpuctl:operators"]);
    expect(keys({ ...robot, nodes: [] })).toEqual(["gpuctl:nodes"]);
    const pool = raw("k3s-gpu-pool");
    expect(keys({ ...pool, cluster: { ...(pool["cluster"] as object), agents: ["gpu-1", "GPU 2"] } })).toEqual([
      "gpuctl:cluster.agents[1]",
    ]);
    expect(keys({ ...pool, nodes: { ...(pool["nodes"] as object), "gpu-1": {} } })).toEqual(["gpuctl:nodes.gpu-1.kind"]);
    const { operators: mine, ...without } = raw("adopted-t4");
    expect(keys({ ...without, opertors: mine })).toEqual(["gpuctl:opertors"]);
  });

  it("takes the RSA keys of five people for a cloud server, and says before anything is made that forty are too many", () => {
    const keys = (count: number) =>
      Array.from({ length: count }, (_, index) => `ssh-rsa ${rsaBlob(index)} operator-${index}@example.test`);
    const withKeys = (stack: ExampleStack, count: number, more: object = {}) =>
      problemsOf({ ...raw(stack), operators: { ...operators(), keys: keys(count) }, ...more });
    expect(withKeys("hetzner-cpu", rsaKeysThatFit)).toEqual([]);
    expect(messageOf(withKeys("hetzner-cpu", 40), "gpuctl:operators.keys")).toMatch(/^\d+ bytes too many: .*32768.*ssh-ed25519/);
    expect(keysOf(withKeys("hetzner-cpu", 40, { servicePorts: [0] }))).toEqual([
      "gpuctl:operators.keys",
      "gpuctl:servicePorts[0]",
    ]);
    expect(withKeys("adopted-t4", 40), "a box has no user data").toEqual([]);
    const app = Array.from({ length: 2000 }, (_, index) => `10.${index >> 8}.${index & 255}.1/32`);
    expect(keysOf(problemsOf({ ...raw("hetzner-cpu"), app }))).toEqual(["gpuctl:app"]);
  });

  it("guesses what a mistyped key or kind was meant to be", () => {
    const base = raw("adopted-t4");
    expect(messageOf(problemsOf({ ...base, opertors: {} }), "gpuctl:opertors")).toContain('did you mean "operators"');
    const problems = problemsOf({ ...base, nodes: { a: { kind: "adoptd", host: "203.0.113.20" } } });
    expect(problems.map(({ key }) => key)).toContain("gpuctl:nodes.a.kind");
  });

  it("opens SSH to the internet only when that is said twice", () => {
    const open = (addresses: string[], anywhere: string | string[] | null) =>
      problemsOf({ ...raw("adopted-t4"), operators: { ...operators(), addresses, anywhere } });
    expect(messageOf(open(["0.0.0.0/0"], null), "gpuctl:operators.addresses[0]")).toContain("operators.anywhere: 0.0.0.0/0");
    expect(open(["0.0.0.0/0"], "0.0.0.0/0")).toEqual([]);
    expect(open(["::/0"], "0.0.0.0/0")).toHaveLength(1);
    expect(open(["0.0.0.0/0", "::/0"], ["0.0.0.0/0", "::/0"])).toEqual([]);
    expect(messageOf(open(["0.0.0.0/0", "::/0"], "::/0"), "gpuctl:operators.addresses[0]")).toContain(
      "operators.anywhere: [0.0.0.0/0, ::/0]",
    );
    expect(messageOf(open(["198.51.100.7/32"], ["all"]), "gpuctl:operators.anywhere")).toContain("expected a network");
    // The internet in two halves is the internet.
    expect(open(["0.0.0.0/1", "128.0.0.0/1"], null)).toHaveLength(2);
  });

  it("never opens the services to the internet", () => {
    const problems = problemsOf({ ...raw("adopted-t4"), app: ["0.0.0.0/0"] });
    expect(messageOf(problems, "gpuctl:app[0]")).toContain("ingress");
  });

  it("refuses networks with bits beyond their prefix", () => {
    const problems = problemsOf({ ...raw("adopted-t4"), app: ["10.0.0.1/8"] });
    expect(messageOf(problems, "gpuctl:app[0]")).toContain("10.0.0.1/8 is no network");
  });

  it("wants operators where there are hosts, a token where there is a cloud, and something to make", () => {
    const { operators: _, ...without } = raw("adopted-t4");
    expect(problemsOf(without).map(({ key }) => key)).toEqual(["gpuctl:operators.addresses", "gpuctl:operators.keys"]);
    expect(problemsOf(raw("hetzner-cpu"), { ...secrets, hcloudToken: false }).map(({ key }) => key)).toEqual(["hcloud:token"]);
    expect(problemsOf(raw("k3s-gpu-pool"), { ...secrets, k3sToken: false }).map(({ key }) => key)).toEqual(["gpuctl:k3sToken"]);
    expect(problemsOf({ project: "shop" }).map(({ key }) => key)).toEqual(["gpuctl:nodes"]);
  });

  it("wants a private address that the other hosts' firewalls can take", () => {
    const node = { kind: "adopted", host: "gpu.example.org", hostKey: "ssh-ed25519 AAAAC3Nz" };
    const at = (privateAddress: string) => problemsOf({ ...raw("adopted-t4"), nodes: { a: { ...node, privateAddress } } });
    expect(messageOf(at("gpu.internal"), "gpuctl:nodes.a.privateAddress")).toContain("expected an IP address");
    expect(messageOf(at("10.0.0.256"), "gpuctl:nodes.a.privateAddress")).toContain("expected an IP address");
    expect(at("10.0.0.5")).toEqual([]);
    expect(at("fd00::5")).toEqual([]);
  });

  it("knows that agents are nodes of the stack, and that two hosts cannot have one address", () => {
    const cluster = raw("k3s-gpu-pool")["cluster"] as object;
    const stranger = problemsOf({ ...raw("k3s-gpu-pool"), cluster: { ...cluster, agents: ["gpu-1", "gpu-9"] } });
    expect(messageOf(stranger, "gpuctl:cluster.agents[1]")).toContain("no node gpu-9");
    const server = { kind: "hcloud", serverType: "cx33", location: "fsn1", number: 20 };
    const twice = problemsOf({ ...raw("hetzner-cpu"), nodes: { a: server, b: server } });
    expect(messageOf(twice, "gpuctl:nodes.b.number")).toContain("b and a would both be host 20");
  });

  it("wants a network for cloud servers, and an address on the vSwitch that is one", () => {
    const { network: _, ...alone } = raw("hetzner-cpu");
    expect(messageOf(problemsOf(alone), "gpuctl:network")).toContain("staging-1");
    const nodes = structuredClone(raw("robot-gex")["nodes"]) as { "gex-1": { robot: { vlan: { address: string } } } };
    nodes["gex-1"].robot.vlan.address = "10.20.2.1";
    expect(problemsOf({ ...raw("robot-gex"), nodes }).map(({ key }) => key)).toEqual(["gpuctl:nodes.gex-1.robot.vlan.address"]);
    const network = { ...(raw("robot-gex")["network"] as object), zone: "us-east" };
    expect(problemsOf({ ...raw("robot-gex"), network }).map(({ key }) => key)).toEqual(["gpuctl:network.zone"]);
  });
});

describe("asking Hetzner Cloud for a GPU", () => {
  const folder = mkdtempSync(join(tmpdir(), "prices-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const listed = (text: string): string => {
    const file = join(folder, "prices.yaml");
    writeFileSync(file, text);
    return file;
  };
  const asking = (more: Record<string, unknown>, prices = join(folder, "none.yaml")) => {
    const node = { kind: "hcloud", serverType: "ccx33", location: "fsn1", ...more };
    return messageOf(problemsOf({ ...raw("hetzner-cpu"), nodes: { "gpu-1": node }, prices }), "gpuctl:nodes.gpu-1");
  };

  it("is answered: there is none, and three ways to get one, at prices that the program does not know", () => {
    const message = asking({ gpu: { count: 1, product: "Tesla T4" } });
    expect(message).toMatch(/no server type with a GPU/);
    expect(message.match(/price unknown/g)).toHaveLength(3);
    expect(message).toMatch(/1\. .*GEX.*\n.*2\. .*SSH.*\n.*3\. .*Kubernetes/);
  });

  it.each(["gex44", "gpu-1x", "ccx33-t4", "a100", "l40s", "v100", "a10", "a10g", "b200", "gb200-1x", "ccx33-h200", "rtx4000"])(
    "is recognised by the type %s as well",
    (serverType) => {
      expect(asking({ serverType })).toContain("no server type with a GPU");
    },
  );

  it("shows the prices of the list that gpuctl cost reads, with source and date, and none of CPU hosts", () => {
    const guide = readFileSync(new URL("../../../docs/guides/cost.md", import.meta.url), "utf8");
    const [, text = ""] = /```yaml\n([\s\S]*?)```/.exec(guide) ?? [];
    const gex = '  gex: { device: gpu, way: robot, monthly: 212.3, source: hetzner.com, date: "2026-10-08" }\n';
    const message = asking({ gpu: {} }, listed(text + gex));
    expect(message).toMatch(/1\. .*: gex 212\.30 EUR a month \(hetzner\.com, read on 2026-10-08\)\n/);
    expect(message).toMatch(
      /2\. .*: gpu-box 219\.00 EUR a month, 100\.00 EUR once \(https:\/\/example\.net\/prices, read on 2026-11-01\)\n/,
    );
    expect(message).toMatch(/3\. .*: price unknown$/);
    expect(message).not.toContain("cpu-box");
  });

  it.each(["version: 2\n", "hosts: {\n"])("is answered with a list that has mistakes, too: %j", (text) => {
    const file = listed(text);
    expect(asking({ gpu: {} }, file)).toMatch(/price unknown\n.*prices\.yaml has mistakes, which gpuctl cost shows$/);
  });

  it("is answered also when other keys are wrong", () => {
    const node = { kind: "hcloud", serverType: "cx33", location: "fsn1", gpu: true };
    const problems = problemsOf({ ...raw("hetzner-cpu"), servicePorts: [0], nodes: { "gpu-1": node } });
    expect(problems.map(({ key }) => key)).toEqual(["gpuctl:servicePorts[0]", "gpuctl:nodes.gpu-1"]);
  });

  it.each(["cx33", "cpx51", "cax41", "ccx63", "cpx122", "cbx33"])("is not what %s does", (serverType) => {
    const node = { kind: "hcloud", serverType, location: "fsn1" };
    expect(problemsOf({ ...raw("hetzner-cpu"), nodes: { a: node } })).toEqual([]);
  });
});

function raw(stack: ExampleStack): Record<string, unknown> {
  return Object.fromEntries(Object.entries(exampleConfig(stack)).map(([key, value]) => [key.replace("gpuctl:", ""), value]));
}

/** Of a team. Carried twice they would not fit. */
const rsaKeysThatFit = 5;

/** The public half of an RSA key of 4096 bits, as ~/.ssh/id_rsa.pub has it: 716 characters of base64, each another. */
function rsaBlob(index: number): string {
  const { publicKey } = rsaPair;
  const { n = "", e = "" } = publicKey.export({ format: "jwk" });
  const modulus = Buffer.from(n, "base64url");
  modulus.writeUInt32BE(index, modulus.length - 4);
  const parts = [Buffer.from("ssh-rsa"), Buffer.from(e, "base64url"), Buffer.concat([Buffer.of(0), modulus])];
  const framed = parts.flatMap((part) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(part.length);
    return [length, part];
  });
  return Buffer.concat(framed).toString("base64");
}
const rsaPair = generateKeyPairSync("rsa", { modulusLength: 4096 });

const operators = () => raw("adopted-t4")["operators"] as { addresses: string[]; keys: string[] };

function problemsOf(config: Record<string, unknown>, given = secrets): readonly StackProblem[] {
  try {
    checkStack(config, given, priceList, hostScript());
    return [];
  } catch (error) {
    if (error instanceof StackInvalid) return error.problems;
    throw error;
  }
}

const keysOf = (problems: readonly StackProblem[]): string[] => problems.map(({ key }) => key).sort();

const messageOf = (problems: readonly StackProblem[], key: string): string =>
  problems.find((problem) => problem.key === key)?.message ?? `no problem at ${key}: ${JSON.stringify(problems)}`;
