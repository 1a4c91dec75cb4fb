/** What is told to the script that prepares hosts, what it answers, and how that is judged: all pure. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { addNode } from "../../cli/src/domain/host/add-node.js";
import { judgeHost } from "../../cli/src/domain/host/judge.js";
import { logText, readLogLine } from "../../cli/src/domain/host/log-line.js";
import { readResult, type HostResult } from "../../cli/src/domain/host/result.js";
import { valuesText, type HostValues } from "../../cli/src/domain/host/values.js";
import { packageRoot } from "../support/run-command.js";

const values: HostValues = {
  gpu: "require",
  deployUser: "ops",
  authorizedKeys: ["ssh-ed25519 AAAA one", "ssh-ed25519 BBBB two"],
  servicePorts: [8001, 8002],
  appAddresses: ["10.0.0.0/8"],
  sshAddresses: [],
  reboot: true,
  revision: "shop/production",
  repositories: { docker: "https://mirror.example.org/docker/" },
};

describe("values", () => {
  test("are lines, of which the first counts the others", () => {
    expect(valuesText(values).split("\n")).toEqual([
      "GPUCTL_VALUES=10",
      "GPUCTL_GPU=require",
      "GPUCTL_DEPLOY_USER=ops",
      "GPUCTL_AUTHORIZED_KEY=ssh-ed25519 AAAA one",
      "GPUCTL_AUTHORIZED_KEY=ssh-ed25519 BBBB two",
      "GPUCTL_SERVICE_PORTS=8001,8002",
      "GPUCTL_APP_ADDRESSES=10.0.0.0/8",
      "GPUCTL_SSH_ADDRESSES=",
      "GPUCTL_REBOOT=yes",
      "GPUCTL_REVISION=shop/production",
      "GPUCTL_DOCKER_REPOSITORY=https://mirror.example.org/docker",
      "",
    ]);
  });

  test("that would make a line of their own are refused", () => {
    expect(() => valuesText({ ...values, revision: "a\nGPUCTL_GPU=none" })).toThrow(/more than one line/);
  });

  test("with the script stay below what a provider takes as user data", () => {
    const script = join(packageRoot, "infra/host/prepare-host.sh");
    const size = Number(execFileSync("sh", ["-c", `gzip -9c '${script}' | base64 -w0 | wc -c`]).toString());
    expect(size + valuesText(values).length).toBeLessThan(32 * 1024 - 6 * 1024);
  });
});

describe("the log", () => {
  test("is read line by line, and what is no line of it is passed over", () => {
    expect(readLogLine('{"time":"x","step":"docker","event":"end","result":"done","detail":"Docker 28"}')).toMatchObject({
      step: "docker",
    });
    for (const text of ["", "{", "Reading package lists...", '{"step":1}', '{"step":"a","event":"middle"}'])
      expect(readLogLine(text)).toBeNull();
  });

  test("tells people what was done, what is waited for and what failed, and not what was right already", () => {
    const said = [
      { step: "docker", event: "start" },
      { step: "tools", event: "start", detail: "waiting for apt's lock" },
      { step: "docker", event: "end", result: "unchanged", detail: "Docker 28" },
      { step: "ufw", event: "end", result: "done" },
      { step: "driver", event: "end", result: "failed", detail: "no network" },
    ] as const;
    expect(said.map(logText)).toEqual([null, "tools: waiting for apt's lock", null, "ufw: done", "driver: failed, no network"]);
  });
});

const prepared: HostResult = {
  schemaVersion: 1,
  script: "a".repeat(64),
  revision: "1",
  state: "prepared",
  step: "verify",
  reason: null,
  nextStep: null,
  gpus: [{ uuid: "GPU-1", name: "Tesla T4", memory: 15360 }],
  driver: "580.95.05",
  docker: "28.5.2",
  toolkit: "1.20.0-1",
  kernel: "6.8.0-90-generic",
  at: "2026-11-21T12:00:00Z",
};

describe("a host", () => {
  const judge = (left: HostResult | null, now: HostResult | null, script = prepared.script): string[] =>
    judgeHost("gpu-1", { left, now, script }).map(({ level, code }) => `${level} ${code}`);

  test("that is as it was prepared has no findings", () => {
    expect(judge(prepared, { ...prepared, at: "later" })).toEqual([]);
    expect(readResult(JSON.stringify(prepared))).toEqual(prepared);
    expect(readResult("{")).toBeNull();
  });

  test.each<[string, HostResult | null, HostResult | null, string[]]>([
    ["was never prepared", null, null, ["blocker host-not-prepared"]],
    ["has a result that nobody can read", prepared, null, ["blocker host-not-prepared"]],
    ["was changed since", prepared, { ...prepared, state: "failed", reason: "ufw is not active" }, ["blocker host-changed"]],
    ["has lost a GPU", prepared, { ...prepared, gpus: [] }, ["blocker host-gpu-gone"]],
    ["has another kernel", prepared, { ...prepared, kernel: "6.8.0-95-generic" }, ["warning host-versions"]],
    ["is restarting", { ...prepared, state: "rebooting" }, prepared, ["blocker host-rebooting"]],
    ["failed, and is well now", { ...prepared, state: "failed", step: "docker" }, prepared, ["blocker host-failed"]],
  ])("that %s says so", (_, left, now, findings) => {
    expect(judge(left, now)).toEqual(findings);
  });

  test("that another script prepared is a warning only", () => {
    expect(judge(prepared, prepared, "b".repeat(64))).toEqual(["warning host-script-older"]);
  });

  test("names what to type next, the script's own advice first", () => {
    const [finding] = judgeHost("gpu-1", {
      left: prepared,
      now: { ...prepared, state: "failed", reason: "x", nextStep: "ufw enable" },
      script: "",
    });
    expect(finding?.nextSteps).toEqual(["ufw enable", "gpuctl host prepare gpu-1"]);
  });
});

describe("a node in gpuctl.yaml", () => {
  const source = `# our shop
version: 1
environments:
  local: { target: process }
  production:   # the real one
    target: compose
    nodes:
      old: { host: 192.0.2.9 } # bought in spring
    soak: 60s  # longer than usual: ${"a very long remark ".repeat(12)}
`;

  test("is added below the others, and every other line stays as it is", () => {
    const [before, after] = source.split("    soak:");
    expect(addNode(source, "production", "gpu-1", { host: "192.0.2.10", user: undefined, port: 2222 })).toEqual({
      text: `${before ?? ""}      gpu-1: { host: 192.0.2.10, port: 2222 }\n    soak:${after ?? ""}`,
    });
  });

  test("is written over several lines where the others are", () => {
    const block = "environments:\n  production:\n    target: compose\n    nodes:\n      old:\n        host: 192.0.2.9\n";
    expect(addNode(block, "production", "gpu-1", { host: "h" })).toEqual({ text: `${block}      gpu-1:\n        host: h\n` });
  });

  test.each(["    nodes: {}\n", "", "    nodes:\n"])("is the first of an environment without nodes: %j", (nodes) => {
    const none = `# ours\nenvironments:\n  production:\n    target: compose # hosts\n${nodes}`;
    expect(addNode(none, "production", "gpu-1", { host: "h" })).toEqual({
      text: "# ours\nenvironments:\n  production:\n    target: compose # hosts\n    nodes:\n      gpu-1:\n        host: h\n",
    });
  });

  test("is added where the nodes share one line, and where the file ends without a line's end", () => {
    const shared = "environments:\n  production:\n    nodes: { old: { host: a } }";
    expect(addNode(shared, "production", "new", { host: "b" })).toEqual({
      text: "environments:\n  production:\n    nodes: { old: { host: a }, new: { host: b } }\n",
    });
    const open = "environments:\n  production:\n    nodes:\n      old: { host: a }";
    expect(addNode(open, "production", "new", { host: "b" })).toEqual({ text: `${open}\n      new: { host: b }\n` });
  });

  test("is never written over another, nor where no environment is", () => {
    expect(addNode(source, "production", "old", { host: "h" })).toEqual({ cannot: "name-taken" });
    expect(addNode(source, "staging", "gpu-1", { host: "h" })).toEqual({ cannot: "no-environment" });
    expect(addNode("environments:\n  p:\n    nodes: x\n", "p", "gpu-1", { host: "h" })).toEqual({ cannot: "no-nodes" });
  });
});
