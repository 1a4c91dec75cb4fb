import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { cloudInit } from "../../../infra/lib/cloud-init.js";
import { gpuPodsWithoutLimits, openSsh, tokensInUserData, unprotected } from "../../../infra/policy/checks.js";
import { hostScript } from "../../../infra/scripts.js";
import { exampleValues } from "../../support/infra/user-data.js";
import { privateKey } from "../../support/infra/stack-under-mocks.js";

describe("the policy no-open-ssh", () => {
  const rule = (more: object) => ({ direction: "in", protocol: "tcp", port: "22", sourceIps: ["0.0.0.0/0"], ...more });
  const check = (more: object, allowed: string[] = []) =>
    openSsh({ type: "hcloud:index/firewall:Firewall", props: { rules: [rule(more)] }, protect: false }, allowed);

  it.each([
    ["the port itself", {}],
    ["IPv6", { sourceIps: ["::/0"] }],
    ["a range of ports", { port: "1-1024" }],
    ["any port", { port: "any" }],
    ["half of the internet", { sourceIps: ["128.0.0.0/1"] }],
    ["something that is no network", { sourceIps: ["everywhere"] }],
  ])("finds %s", (_, more) => expect(check(more)).toHaveLength(1));

  it.each([
    ["the operators' network", { sourceIps: ["198.51.100.0/24"] }],
    ["another port", { port: "443" }],
    ["what goes out", { direction: "out" }],
    ["another protocol", { protocol: "udp" }],
  ])("leaves %s alone", (_, more) => expect(check(more)).toEqual([]));

  it("takes the decision of whoever says so", () => expect(check({}, ["0.0.0.0/0"])).toEqual([]));
});

describe("the policy no-secret-in-user-data", () => {
  const check = (userData: string) =>
    tokensInUserData({ type: "hcloud:index/server:Server", props: { userData }, protect: false });
  const ours = cloudInit({
    script: hostScript(),
    values: exampleValues,
    firstKey: { privateKey: `${privateKey}\n`, publicKey: "ecdsa-sha2-nistp256 AAAAE2VjZHNh" },
    operators: [`ssh-ed25519 ${"AAAAC3NzaC1lZDI1NTE5AAAAI".padEnd(64, "aB3")} me`],
  });

  it("allows our own, with the one-time key in its place", () => expect(check(ours)).toEqual([]));

  it.each([
    ["a token of Hetzner Cloud", `HCLOUD=${"aB3".repeat(22).slice(0, 64)}`],
    ["a private key", privateKey],
    ["a token of k3s", "K10abcdef0123456789abcdef0123456789::server:xyz"],
    ["a password", "password: correct-horse"],
    ["a token of a model hub", `hf_${"a".repeat(34)}`],
  ])("finds %s as plain text, in a file of cloud-init, compressed or not", (what, secret) => {
    const file = (encoding: string, content: string) => JSON.stringify({ write_files: [{ path: "/x", encoding, content }] });
    const hidden = gzipSync(`#!/bin/sh\n# ${secret}\n`).toString("base64");
    for (const text of [
      secret,
      `#cloud-config\n${file("gz+b64", hidden)}`,
      gzipSync(`#cloud-config\n${file("text/plain", secret)}`).toString("base64"),
    ])
      expect(check(text).join(), text.slice(0, 40)).toContain(what);
  });

  it("finds the lasting key of a host, which is not the one-time key", () => {
    expect(check(ours.replace("ecdsa_private", "ed25519_private"))).toHaveLength(1);
  });
});

describe("the policy protected-data", () => {
  const check = (deleteProtection: boolean, protect: boolean, type = "hcloud:index/volume:Volume") =>
    unprotected({ type, props: { deleteProtection }, protect });

  it("wants both protections of volumes and addresses, and nothing of others", () => {
    expect(check(true, true)).toEqual([]);
    expect(check(false, true)).toHaveLength(1);
    expect(check(true, false, "hcloud:index/primaryIp:PrimaryIp")).toHaveLength(1);
    expect(check(false, false)).toHaveLength(2);
    expect(check(false, false, "hcloud:index/server:Server")).toEqual([]);
  });
});

describe("the policy gpu-pods-carry-limits", () => {
  const pod = (containers: object[], more: object = {}) => ({ spec: { containers, ...more } });
  const check = (props: object, type = "kubernetes:core/v1:Pod") =>
    gpuPodsWithoutLimits({ type, props: { ...props }, protect: false });
  const limits = { "nvidia.com/gpu": "1", memory: "4Gi" };

  it("wants the limit of the GPU and of the memory", () => {
    expect(check(pod([{ name: "a", resources: { limits } }]))).toEqual([]);
    expect(check(pod([{ name: "a", resources: { limits: { "nvidia.com/gpu": "1" } } }])).join()).toContain("limits.memory");
    expect(check(pod([{ name: "a", resources: { requests: { "nvidia.com/gpu": "1" } } }]))).toHaveLength(2);
    expect(check(pod([{ name: "a" }], { runtimeClassName: "nvidia" })).join()).toContain("limits.nvidia.com/gpu");
  });

  it("finds pods wherever Kubernetes has templates of them", () => {
    const bad = pod([{ name: "a", resources: { limits: { "nvidia.com/gpu": 1 } } }]);
    expect(check({ spec: { template: bad } }, "kubernetes:apps/v1:Deployment")).toHaveLength(1);
    expect(check({ spec: { jobTemplate: { spec: { template: bad } } } }, "kubernetes:batch/v1:CronJob")).toHaveLength(1);
  });

  it("leaves pods without a GPU alone, and what is no pod", () => {
    expect(check(pod([{ name: "a" }]))).toEqual([]);
    expect(check({ spec: {} }, "kubernetes:core/v1:Service")).toEqual([]);
  });
});
