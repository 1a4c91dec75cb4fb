/** What `gpuctl host prepare` makes of hosts that restart, vanish, refuse or never come back. */
import { beforeEach, describe, expect, test } from "vitest";
import { prepareHost, type HostContext, type PrepareRequest } from "../../cli/src/app/host-prepare.js";
import type { EnvironmentConfig } from "../../cli/src/domain/config/resolved.js";
import { Failed, PreflightRefused, TargetUnreachable, UsageError } from "../../cli/src/domain/errors.js";
import { ms } from "../../cli/src/domain/units.js";
import type { HostPreparer, ScriptExit } from "../../cli/src/ports/host-preparer.js";
import { CollectingProgress } from "../fakes/collecting-progress.js";
import { SteppingClock } from "../fakes/stepping-clock.js";

const result = (state: string, more: object = {}): string =>
  JSON.stringify({
    schemaVersion: 1,
    script: "",
    revision: "",
    state,
    step: "driver",
    reason: null,
    nextStep: null,
    gpus: [],
    driver: null,
    docker: "28.5.2",
    toolkit: null,
    kernel: "k",
    at: "t",
    ...more,
  });

/** A host of which a test says how each run ends, and what is there afterwards. */
class RehearsedHost implements HostPreparer {
  runs: (() => ScriptExit)[] = [];
  /** What an earlier run left. */
  before: string | null = null;
  results: string[] = [];
  lines: string[] = [];
  boots: (() => string)[] = [() => "boot-1"];
  containers: string[] | null = [];
  readonly values: string[] = [];

  script = (): Promise<string> => Promise.resolve("");
  check = (): Promise<string | null> => Promise.resolve(null);
  logTail = (): Promise<readonly string[]> => Promise.resolve(["E: no network"]);
  serving = (): Promise<readonly string[] | null> => Promise.resolve(this.containers);
  result = (): Promise<string | null> => {
    if (this.values.length === 0) return Promise.resolve(this.before);
    return Promise.resolve((this.results.length > 1 ? this.results.shift() : this.results[0]) ?? null);
  };
  bootId = async (): Promise<string> =>
    Promise.resolve(((this.boots.length > 1 ? this.boots.shift() : this.boots[0]) ?? String)());
  run = async (_: string, job: { values: string; onLine: (line: string) => void }): Promise<ScriptExit> => {
    this.values.push(job.values);
    this.lines.forEach(job.onLine);
    return Promise.resolve(((this.runs.length > 1 ? this.runs.shift() : this.runs[0]) as () => ScriptExit)());
  };
}

const lost = (): never => {
  throw new TargetUnreachable("the connection to gpu-1 was lost", { because: "reset by peer" });
};
const ends = (code: number) => (): ScriptExit => ({ code, said: "" });

const config = {
  project: "shop",
  environment: "production",
  services: { embedder: { port: 8001, device: { prefer: "cuda", require: "cuda" }, nodes: null } },
  targetSettings: { target: "compose", nodes: { "gpu-1": { host: "h", user: "ops" } }, allow: ["10.0.0.0/8"] },
} as unknown as EnvironmentConfig;

const request: PrepareRequest = {
  node: "gpu-1",
  mode: "prepare",
  confirm: undefined,
  gpu: undefined,
  deployUser: undefined,
  authorizedKeys: [],
  appAddresses: null,
  sshAddresses: null,
  reboot: true,
  repositories: {},
  patience: ms(60_000),
};

let host: RehearsedHost;
let progress: CollectingProgress;
let context: HostContext;
let clock: SteppingClock;

beforeEach(() => {
  host = new RehearsedHost();
  progress = new CollectingProgress();
  clock = new SteppingClock();
  const files = { read: () => Promise.resolve("ssh-ed25519 AAAA ops\n"), replace: () => Promise.resolve() };
  context = { config, preparer: host, files, clock, progress, signal: new AbortController().signal };
});

test("the environment says what is not asked for: a GPU that a service requires, its port, its user, who may come", async () => {
  host.runs = [ends(0)];
  host.results = [result("prepared")];
  expect(await prepareHost(context, request)).toMatchObject({ state: "prepared", restarted: false });
  for (const line of ["GPU=require", "DEPLOY_USER=ops", "SERVICE_PORTS=8001", "APP_ADDRESSES=10.0.0.0/8", "REBOOT=yes"])
    expect(host.values[0]).toContain(`GPUCTL_${line}\n`);
});

test("what nobody asked for is not said to the host, which keeps what it has; an empty list takes that back", async () => {
  host.runs = [ends(0)];
  host.results = [result("prepared")];
  await prepareHost(context, request);
  expect(host.values[0]).not.toMatch(/SSH_ADDRESSES|REPOSITORY|AUTHORIZED_KEY/);
  context.config = { ...config, services: {}, targetSettings: { target: "compose", nodes: { "gpu-1": { host: "h" } } } } as never;
  await prepareHost(context, { ...request, sshAddresses: [] });
  expect(host.values[1]).toMatch(/^GPUCTL_SSH_ADDRESSES=$/m);
  expect(host.values[1]).not.toMatch(/GPU=|DEPLOY_USER|SERVICE_PORTS|APP_ADDRESSES/);
});

describe("a result that an earlier run left", () => {
  const earlier = result("prepared", { at: "long ago" });
  const locked =
    '{"time":"x","step":"lock","event":"end","result":"failed","detail":"another run has held the lock for an hour"}';

  test.each([1, 3, 4])("is not that of a run that ended with %i: what it said last is", async (code) => {
    host.before = earlier;
    host.results = [earlier];
    host.lines = [locked];
    host.runs = [ends(code)];
    const thrown = await prepareHost(context, request).catch((error: unknown) => error);
    expect(thrown).toBeInstanceOf(Failed);
    expect(thrown).toMatchObject({ because: "another run has held the lock for an hour" });
  });

  test("that failed is not that of a run that ended well and could not write its own", async () => {
    host.before = result("failed");
    host.results = [host.before];
    host.runs = [ends(0)];
    await expect(prepareHost(context, request)).rejects.toMatchObject({ because: "E: no network" });
  });
});

test("what may become a fault is a warning to the operator", async () => {
  host.runs = [ends(0)];
  host.results = [result("prepared")];
  host.lines = ['{"time":"x","step":"limits","event":"warning","detail":"no swap"}'];
  await prepareHost(context, request);
  expect(progress.events).toContainEqual({ kind: "warning", text: "limits: no swap" });
});

test("the ingress is a port of its node, and its node is one that may come to the others", async () => {
  const nodes = { "gpu-1": { host: "203.0.113.6" }, "gpu-2": { host: "203.0.113.7" } };
  const targetSettings = {
    ...{ target: "compose", nodes, allow: ["10.0.0.0/8"] },
    ingress: { node: "gpu-1" },
    tls: { mode: "acme" },
  };
  const behind = { ...context, config: { ...config, bind: "0.0.0.0", targetSettings } as EnvironmentConfig };
  host.runs = [ends(0), ends(0)];
  host.results = [result("prepared"), result("prepared")];
  for (const node of ["gpu-1", "gpu-2"]) await prepareHost(behind, { ...request, node });
  expect(host.values[0]).toContain("GPUCTL_SERVICE_PORTS=8001,443\nGPUCTL_APP_ADDRESSES=10.0.0.0/8\n");
  expect(host.values[1]).toContain("GPUCTL_SERVICE_PORTS=8001\nGPUCTL_APP_ADDRESSES=10.0.0.0/8,203.0.113.6/32\n");
});

test("a restart is waited for until another boot has verified itself, not until the old one answers again", async () => {
  host.runs = [ends(4)];
  host.results = [result("rebooting"), result("rebooting"), result("prepared")];
  host.boots = [() => "boot-1", () => "boot-1", lost, lost, () => "boot-2"];
  expect(await prepareHost(context, request)).toMatchObject({ state: "prepared", restarted: true });
});

test("a host that does not come back is given up with the end of its log", async () => {
  host.runs = [ends(4)];
  host.results = [result("rebooting")];
  const thrown = await prepareHost(context, request).catch((error: unknown) => error);
  expect(thrown).toBeInstanceOf(Failed);
  expect(thrown).toMatchObject({ message: "gpu-1 did not restart", lines: ["E: no network"] });
});

test("a run that loses its connection is followed by one that waits for its end", async () => {
  host.runs = [lost, ends(0)];
  host.results = [result("prepared")];
  expect((await prepareHost(context, request)).state).toBe("prepared");
  expect(host.values).toHaveLength(2);
});

test("patience begins when the connection is lost, however long the run had taken until then", async () => {
  const late = (): never => {
    clock.pass(3_600_000);
    return lost();
  };
  host.runs = [late, ends(0)];
  host.results = [result("prepared")];
  host.boots = [() => "boot-1", lost, () => "boot-1"];
  expect((await prepareHost(context, request)).state).toBe("prepared");
});

test("a host that stays away is unreachable in the end", async () => {
  host.runs = [lost];
  host.boots = [() => "boot-1", lost];
  await expect(prepareHost(context, request)).rejects.toThrow(TargetUnreachable);
});

describe("releases that serve", () => {
  beforeEach(() => {
    host.containers = ["shop-embedder-a"];
    host.runs = [ends(0)];
    host.results = [result("prepared")];
  });

  test("are not restarted under, unless the node's name confirms it", async () => {
    await prepareHost(context, request);
    await prepareHost(context, { ...request, confirm: "gpu-1" });
    expect(host.values.map((text) => /REBOOT=(\w+)/.exec(text)?.[1])).toEqual(["no", "yes"]);
  });

  test("are taken to be there when Docker does not say", async () => {
    host.containers = null;
    await prepareHost(context, request);
    expect(host.values[0]).toContain("REBOOT=no");
    await expect(prepareHost(context, { ...request, mode: "upgrade" })).rejects.toThrow(PreflightRefused);
  });

  test("refuse an upgrade, unless the node's name confirms it", async () => {
    await expect(prepareHost(context, { ...request, mode: "upgrade", confirm: "yes" })).rejects.toThrow(PreflightRefused);
    expect(host.values).toEqual([]);
    await prepareHost(context, { ...request, mode: "upgrade", confirm: "gpu-1" });
    expect(host.values).toHaveLength(1);
  });
});

test.each([
  [
    "refused",
    3,
    result("refused", { reason: "Secure Boot is on", nextStep: "switch it off" }),
    PreflightRefused,
    "Secure Boot is on",
    [],
  ],
  ["failed", 1, result("failed", { reason: "no room" }), Failed, "no room", ["E: no network"]],
  ["no result", 1, "", Failed, "E: no network", ["E: no network"]],
  ["wrong values", 2, "", UsageError, "E: no network", []],
] as const)("%s", async (_, code, left, kind, because, lines) => {
  host.runs = [ends(code)];
  host.results = [left];
  const thrown = await prepareHost(context, request).catch((error: unknown) => error);
  expect(thrown).toBeInstanceOf(kind);
  expect(thrown).toMatchObject({ because, lines });
});

test("a restart that is needed and was not made is a result, not an error", async () => {
  host.runs = [ends(4)];
  host.results = [result("reboot-needed", { reason: "nouveau" })];
  expect(await prepareHost(context, { ...request, reboot: false })).toMatchObject({ state: "reboot-needed" });
});

test("a private key where a public one belongs never leaves this machine", async () => {
  context.files.read = () => Promise.resolve("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n");
  await expect(prepareHost(context, { ...request, authorizedKeys: ["id"] })).rejects.toThrow(UsageError);
  expect(host.values).toEqual([]);
});

test("a node that the environment does not have is a usage error that names those it has", async () => {
  await expect(prepareHost(context, { ...request, node: "gpu-9" })).rejects.toMatchObject({ because: "its nodes are gpu-1" });
});
