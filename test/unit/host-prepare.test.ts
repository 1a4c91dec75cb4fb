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
  results: string[] = [];
  boots: (() => string)[] = [() => "boot-1"];
  containers: string[] = [];
  readonly values: string[] = [];

  script = (): Promise<string> => Promise.resolve("");
  check = (): Promise<string | null> => Promise.resolve(null);
  logTail = (): Promise<readonly string[]> => Promise.resolve(["E: no network"]);
  serving = (): Promise<readonly string[]> => Promise.resolve(this.containers);
  result = (): Promise<string | null> =>
    Promise.resolve((this.results.length > 1 ? this.results.shift() : this.results[0]) ?? null);
  bootId = async (): Promise<string> =>
    Promise.resolve(((this.boots.length > 1 ? this.boots.shift() : this.boots[0]) ?? String)());
  run = async (_: string, job: { values: string }): Promise<ScriptExit> => {
    this.values.push(job.values);
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
  appAddresses: [],
  sshAddresses: [],
  reboot: true,
  repositories: {},
  patience: ms(60_000),
};

let host: RehearsedHost;
let progress: CollectingProgress;
let context: HostContext;

beforeEach(() => {
  host = new RehearsedHost();
  progress = new CollectingProgress();
  const files = { read: () => Promise.resolve("ssh-ed25519 AAAA ops\n"), replace: () => Promise.resolve() };
  context = { config, preparer: host, files, clock: new SteppingClock(), progress, signal: new AbortController().signal };
});

test("the environment says what is not asked for: a GPU that a service requires, its port, its user, who may come", async () => {
  host.runs = [ends(0)];
  host.results = [result("prepared")];
  expect(await prepareHost(context, request)).toMatchObject({ state: "prepared", restarted: false });
  for (const line of ["GPU=require", "DEPLOY_USER=ops", "SERVICE_PORTS=8001", "APP_ADDRESSES=10.0.0.0/8", "REBOOT=yes"])
    expect(host.values[0]).toContain(`GPUCTL_${line}\n`);
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
  ],
  ["failed", 1, result("failed", { reason: "no network" }), Failed, "no network"],
  ["no result", 1, "", Failed, "E: no network"],
  ["wrong values", 2, "", UsageError, "E: no network"],
] as const)("%s", async (_, code, left, kind, because) => {
  host.runs = [ends(code)];
  host.results = [left];
  const thrown = await prepareHost(context, request).catch((error: unknown) => error);
  expect(thrown).toBeInstanceOf(kind);
  expect(thrown).toMatchObject({ because });
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
