/** The policy pack as the real engine runs it: our program passes, and a program that was made bad is stopped before it makes anything. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ExampleStack } from "../support/pulumi-engine/example.js";

const withPolicies = ["--policy-pack", "infra/policy"];

describe("the policy pack", () => {
  let stack: ExampleStack;

  beforeAll(async () => {
    stack = await ExampleStack.start("hetzner-cpu");
  }, 1_800_000);
  afterAll(() => stack.stop());

  test("stops a firewall that opens SSH, and a volume and an address that anything could delete", async () => {
    await stack.set("operators.addresses[0]", "0.0.0.0/0");
    await stack.set("operators.anywhere", "0.0.0.0/0");
    await stack.set("protect", "false");
    const { code, stdout, stderr } = await stack.project.operate("preview", withPolicies);
    expect(code).not.toBe(0);
    const said = stdout + stderr;
    expect(said).toMatch(/\[mandatory\] +no-open-ssh +\(hcloud:index\/firewall:Firewall: firewall\)/);
    expect(said).toMatch(/\[mandatory\] +protected-data +\(hcloud:index\/volume:Volume: staging-1-models\)/);
    expect(said).toMatch(/\[mandatory\] +protected-data +\(hcloud:index\/primaryIp:PrimaryIp: staging-1-ip\)/);
    const allowed = join(stack.project.folder, "policies.json");
    writeFileSync(allowed, JSON.stringify({ "no-open-ssh": { allow: ["0.0.0.0/0"] } }));
    const other = await stack.project.operate("preview", [...withPolicies, "--policy-pack-config", allowed]);
    expect(other.stdout + other.stderr).toMatch(/\[mandatory\] +protected-data/);
    expect(other.stdout + other.stderr).not.toMatch(/\[mandatory\] +no-open-ssh/);
    await stack.set("operators.addresses[0]", "198.51.100.7/32");
    await stack.must("config", "rm", "--path", "gpuctl:operators.anywhere");
    await stack.set("protect", "true");
  });

  test("stops a token in user data once it is known, so that the server with it is never made", async () => {
    const call = "cloudInit({ script: hostScript(), values, firstKey: key, operators })";
    const bad = 'Promise.resolve("#cloud-config\\nruncmd: [export HF_TOKEN=hf_abcdefghijklmnopqrstuvwxyz012345]\\n")';
    stack.project.edit("infra/components/hcloud-host.ts", call, bad);
    const { code, stdout, stderr } = await stack.project.operate("up", withPolicies);
    expect(code).not.toBe(0);
    expect(stdout + stderr).toMatch(/\[mandatory\] +no-secret-in-user-data +\(hcloud:index\/server:Server: staging-1\)/);
    expect(stack.hcloud.world.list("servers")).toEqual([]);
    stack.project.edit("infra/components/hcloud-host.ts", bad, call);
  });

  test("lets our own program pass, with the one-time key in its user data", async () => {
    const { code, stdout, stderr } = await stack.project.operate("up", withPolicies);
    expect({ code, said: stdout + stderr }).toMatchObject({ code: 0 });
    expect(stack.hcloud.world.list("servers")).toHaveLength(1);
    const { body } = stack.hcloud.requests.find(({ method, path }) => method === "POST" && path === "/servers")!;
    expect(body["user_data"]).toContain("ssh_keys");
  });
});

describe("the policy pack in a cluster", () => {
  let stack: ExampleStack;

  beforeAll(async () => {
    stack = await ExampleStack.start("existing-cluster");
    for (const node of ["gpu-pool-a1", "gpu-pool-a2"]) stack.clusters.set(`production kubernetes:core/v1:Node /${node}`, {});
  }, 1_800_000);
  afterAll(() => stack.stop());

  test("stops a pod that asks for a card without limits, so that it is never made; charts pass, whatever pods they bring", async () => {
    const after = "const classes = this.runtimeClass(name, id, cluster, child);";
    const container = '{ name: "train", image: "train", resources: { requests: { "nvidia.com/gpu": "1" } } }';
    const pod = `new k8s.core.v1.Pod("greedy", { spec: { containers: [${container}] } }, child);\n    ${after}`;
    stack.project.edit("infra/components/gpu-runtime.ts", after, pod);
    const { code, stdout, stderr } = await stack.project.operate("up", withPolicies);
    expect(code).not.toBe(0);
    expect(stdout + stderr).toMatch(/\[mandatory\] +gpu-pods-carry-limits +\(kubernetes:core\/v1:Pod: greedy\)/);
    expect(stdout + stderr).toMatch(/train asks for a GPU without limits\.nvidia\.com\/gpu/);
    expect([...stack.clusters.keys()].filter((key) => key.includes("Pod"))).toEqual([]);
    stack.project.edit("infra/components/gpu-runtime.ts", pod, after);
    const own = await stack.project.operate("up", withPolicies);
    expect({ code: own.code, said: own.stdout + own.stderr }).toMatchObject({ code: 0 });
  });
});
