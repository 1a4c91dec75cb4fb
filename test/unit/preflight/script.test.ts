import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { LocalExecutor } from "../../../cli/src/adapters/exec/local-executor.js";
import { collectNodeFacts } from "../../../cli/src/adapters/preflight/node-facts.js";
import { preflightScript, type ScriptOptions } from "../../../cli/src/adapters/preflight/script.js";
import { Failed, TargetUnreachable } from "../../../cli/src/domain/errors.js";
import { probeNames } from "../../../cli/src/domain/preflight/answers.js";
import type { NodeFacts } from "../../../cli/src/domain/preflight/facts.js";
import { readNodeFacts } from "../../../cli/src/domain/preflight/read-facts.js";
import { ms } from "../../../cli/src/domain/units.js";
import type { RemoteHost } from "../../../cli/src/ports/remote-host.js";

// Forty processes a look: a loaded machine takes its time.
vi.setConfig({ testTimeout: 120_000 });

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "gpuctl-preflight-"));
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

const clock = { now: () => new Date() };
const signal = new AbortController().signal;
const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Puts a program in front of the system's own. */
function fake(name: string, script: string): void {
  mkdirSync(join(folder, "bin"), { recursive: true });
  const file = join(folder, "bin", name);
  writeFileSync(file, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
}

const look = ({ env, ...options }: Partial<ScriptOptions> & { env?: Record<string, string> } = {}): Promise<NodeFacts> =>
  collectNodeFacts(new LocalExecutor(env ?? { PATH: `${join(folder, "bin")}:${path}` }), {
    dataDirectory: join(folder, "data"),
    clock,
    signal,
    ...options,
  });

describe("on this machine", () => {
  test("the script comes to its end, knows who it is, the system, the memory, the disk and the time", async () => {
    const facts = await look();
    expect(facts.incomplete).toBeNull();
    expect(facts.access.user).toMatchObject({ seen: true, value: { uid: process.getuid?.() } });
    expect(facts.system).toMatchObject({ seen: true, value: { name: "Linux" } });
    expect(facts.memory.seen ? facts.memory.value.totalMiB : 0).toBeGreaterThan(100);
    expect(facts.dataDisk).toMatchObject({ seen: true, value: { path: folder, folder: true, writable: true } });
    // The clock is our own, so its difference is within the doubt.
    expect(facts.clock.seen ? Math.abs(facts.clock.value.skewMs) <= facts.clock.value.boundMs : facts.clock).toBe(true);
    expect(facts.network.addresses.seen || facts.network.listeners.seen).toBe(true);
  });

  test("an empty environment and another language change nothing", async () => {
    const stable = ({ access, system, docker, driver, tools }: NodeFacts): unknown => ({ access, system, docker, driver, tools });
    const bare = await look({ env: {} });
    const translated = { PATH: path, LANG: "de_DE.UTF-8", LC_ALL: "tr_TR.UTF-8", LANGUAGE: "de" };
    expect(stable(await look({ env: translated }))).toEqual(stable(bare));
    expect(bare.incomplete).toBeNull();
  });

  test.each(["sh", "bash"])("%s runs it without a word on stderr", (shell) => {
    if (spawnSync(shell, ["-c", ":"]).status !== 0) return;
    const { status, stderr, stdout } = spawnSync(shell, ["-s"], {
      input: preflightScript({ dataDirectory: "/var/lib/gpuctl" }),
      encoding: "utf8",
    });
    expect([status, stderr]).toEqual([0, ""]);
    expect(readNodeFacts(stdout, null, { asked: 0, answered: 0 }).incomplete).toBeNull();
  });

  test("nothing is written: neither to the data directory nor beside it", async () => {
    const before = execFileSync("find", [folder]).toString();
    await look({ dataDirectory: join(folder, "a/b/c") });
    expect(execFileSync("find", [folder]).toString()).toBe(before);
  });

  test("a script that arrived in part does nothing", () => {
    const script = preflightScript({ dataDirectory: "/var/lib/gpuctl" });
    const { stdout } = spawnSync("sh", ["-s"], { input: script.slice(0, script.length - 30), encoding: "utf8" });
    expect(stdout).toBe("");
  });
});

test("any path of a data directory arrives as it is", async () => {
  const name = String.raw`it's "a" $(reboot) \ data`;
  mkdirSync(join(folder, name));
  const facts = await look({ dataDirectory: join(folder, name), only: ["data-disk"] });
  expect(facts.dataDisk).toMatchObject({ seen: true, value: { path: join(folder, name) } });
});

describe("tools that are not as they should be", () => {
  test("a tool that hangs costs its own time only, and is named", async () => {
    fake("nvidia-smi", "sleep 30");
    fake("ufw", "echo 'Status: active'; sleep 30");
    const facts = await look({ longestProbe: 1, only: ["memory", "ufw", "smi-query", "smi-list", "smi-apps"] });
    expect(facts.hanging).toEqual(expect.arrayContaining(["ufw", "smi-query", "smi-list", "smi-apps"]));
    expect(facts.smi.state).toBe("hangs");
    expect(facts.incomplete).toBeNull();
    expect(facts.network.ufw).toEqual({ seen: false, because: "ufw did not answer in time" });
  });

  test("without `timeout` everything is asked all the same", async () => {
    fake("timeout", "exit 125");
    fake("ufw", "echo 'Status: inactive'");
    const facts = await look({ only: ["memory", "ufw"] });
    expect([facts.incomplete, facts.hanging]).toEqual([null, []]);
    expect(facts.network.ufw).toMatchObject({ seen: true, value: { active: false } });
  });

  test("an endless answer is cut off and the rest goes on", async () => {
    fake("ufw", "yes active | head -c 3000000");
    const facts = await look({ only: ["ufw", "memory"] });
    expect(facts.network.ufw).toEqual({ seen: false, because: "its output is too long" });
    expect(facts.memory.seen).toBe(true);
  });

  test("an answer that looks like a record, with NUL bytes, is an answer", async () => {
    fake("ufw", String.raw`printf 'Status: active\nmemory bAAAA b\n\000\ngpuctl-preflight end\n'`);
    const facts = await look({ only: ["ufw", "memory"] });
    expect(facts.network.ufw).toMatchObject({ seen: true, value: { active: true } });
    expect(facts.memory.seen ? facts.memory.value.totalMiB : 0).toBeGreaterThan(100);
  });

  test("an engine that hangs is asked once, and its other questions are skipped", async () => {
    fake("docker", `echo "$@" >>${join(folder, "asked")}; exec sleep 30`);
    const facts = await look({ longestProbe: 1, only: ["docker-version", "docker-info", "docker-ps", "docker-disk", "compose"] });
    expect(facts.docker).toMatchObject({ state: "unreachable", hangs: true });
    expect(readFileSync(join(folder, "asked"), "utf8").trim().split("\n")).toHaveLength(1);
  });
});

describe("rights", () => {
  const only = ["identity", "sudo", "data-disk", "docker-version"] as const;
  beforeEach(() => {
    fake("id", "case $1 in -u) echo 1000 ;; *) echo deploy ;; esac");
    fake("docker", "[ -n \"$AS_ROOT\" ] || { echo 'permission denied while trying to connect' >&2; exit 1; }\necho 28.5.2");
  });

  test("with passwordless sudo, what needs root is asked by it, and Docker too where it refuses the user", async () => {
    fake("sudo", `[ "$1" = -n ] || exit 1\nshift\necho "$*" >>${join(folder, "asked")}\nAS_ROOT=1 exec "$@"`);
    const facts = await look({ only });
    expect(facts.access).toMatchObject({ user: { value: { name: "deploy", uid: 1000 } }, root: { by: "sudo" } });
    expect(facts.docker).toMatchObject({ state: "reachable", as: "sudo", server: "28.5.2" });
    expect(facts.dataDisk).toMatchObject({ seen: true, value: { path: folder } });
    const asked = readFileSync(join(folder, "asked"), "utf8").trim().split("\n");
    expect(asked.filter((line) => line.startsWith("env LC_ALL=C"))).not.toEqual([]);
    // A PATH with spaces, as on WSL2, stays one word.
    const spaced = await look({ only, env: { PATH: `${join(folder, "bin")}:/mnt/c/Program Files/Docker:${path}` } });
    expect(spaced.docker).toMatchObject({ state: "reachable", as: "sudo" });
  });

  test("without it, nothing is asked as root and sudo's words are kept", async () => {
    fake("sudo", "echo 'sudo: a password is required' >&2; exit 1");
    const facts = await look({ only });
    expect(facts.access.root).toEqual({ by: "none", because: "sudo: a password is required" });
    expect(facts.docker).toEqual({ state: "refuses", because: "permission denied while trying to connect" });
  });

  test("who may talk to Docker needs no sudo for it", async () => {
    fake("sudo", "exit 1");
    fake("docker", "echo 28.5.2");
    expect((await look({ only })).docker).toMatchObject({ state: "reachable", as: "user" });
  });
});

test("a GPU node is seen through its tools: engine, cards, who holds their memory", async () => {
  fake(
    "docker",
    String.raw`case "$*" in
  *Server.Version*) echo 28.5.2 ;;
  version*) echo '{"Client":{"Version":"28.5.2"},"Server":{"Version":"28.5.2","ApiVersion":"1.51"}}' ;;
  *DockerRootDir*) echo / ;;
  info*) echo '{"Driver":"overlay2","DockerRootDir":"/","CDISpecDirs":["/etc/cdi"]}'; echo 'WARNING: no swap limit' >&2 ;;
  ps*) ;;
  "compose version --short") echo 2.40.3 ;;
esac`,
  );
  fake(
    "nvidia-smi",
    String.raw`case "$*" in
  *query-gpu*) echo '0, GPU-1, Tesla T4, 580.95.05, 7.5, 15360, 2310, 12606, [N/A], 0, 41, Enabled' ;;
  -L) echo 'GPU 0: Tesla T4 (UUID: GPU-1)' ;;
  *compute-apps=pid*) echo $PPID ;;
  *compute-apps*) echo "GPU-1, $PPID, 2304, python" ;;
esac`,
  );
  const only = probeNames.filter((name) => /^(?:docker|compose|daemon|smi|gpu)/.test(name));
  const facts = await look({ only });
  expect(facts.docker).toMatchObject({
    state: "reachable",
    server: "28.5.2",
    cdi: true,
    compose: { seen: true, value: "2.40.3" },
  });
  expect(facts.docker).toMatchObject({ disk: { seen: true, value: { path: "/" } } });
  expect(facts.smi).toMatchObject({ state: "gpus", gpus: [{ uuid: "GPU-1", freeMiB: 12_606 }] });
  expect(facts.gpuProcesses).toMatchObject({ seen: true, value: [{ gpu: "GPU-1", usedMiB: 2304, container: null }] });
});

test("CDI specifications are read from YAML and JSON, with the driver they are for and the programs they need", () => {
  const yaml = `cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
- name: all
containerEdits:
  hooks:
  - hookName: createContainer
    path: ${folder}/nvidia-cdi-hook
    args: [nvidia-cdi-hook, enable-cuda-compat, --host-driver-version=580.95.05]
  mounts:
  - hostPath: /usr/lib/x86_64-linux-gnu/libcuda.so.580.95.05
`;
  const json =
    '{"cdiVersion":"0.5.0","kind":"nvidia.com/gpu","devices":[{"name":"GPU-1"}],"containerEdits":{"hooks":[{"path":"/bin/nvidia-ctk"}]}}';
  mkdirSync(join(folder, "cdi"));
  writeFileSync(join(folder, "cdi/nvidia.yaml"), yaml);
  writeFileSync(join(folder, "cdi/other.json"), json);
  writeFileSync(join(folder, "cdi/vendor.yaml"), "kind: vendor.com/net\ndevices:\n- name: eth\n");
  const script = preflightScript({ dataDirectory: "/", only: ["cdi-files"] }).replaceAll("/etc/cdi/*", join(folder, "cdi/*"));
  const { stdout } = spawnSync("sh", ["-s"], { input: script, encoding: "utf8" });
  const { specs } = readNodeFacts(stdout, null, { asked: 0, answered: 0 }).toolkit;
  expect(specs).toMatchObject({
    seen: true,
    value: [
      {
        kind: "nvidia.com/gpu",
        devices: ["nvidia.com/gpu=0", "nvidia.com/gpu=all"],
        driver: "580.95.05",
        missingHooks: [`${folder}/nvidia-cdi-hook`],
      },
      { devices: ["nvidia.com/gpu=GPU-1"], driver: null, missingHooks: ["/bin/nvidia-ctk"] },
    ],
  });
});

describe("the connection", () => {
  const host = (run: RemoteHost["run"]): Promise<NodeFacts> => collectNodeFacts({ run }, { dataDirectory: "/d", clock, signal });

  test("that ends past its deadline keeps what was said", async () => {
    const facts = await host(async (_, { onLine }) => {
      onLine?.("gpuctl-preflight begin", "stdout");
      onLine?.(`memory b${Buffer.from("MemTotal: 2048 kB\nMemAvailable: 1024 kB\n\n0").toString("base64")} b`, "stdout");
      onLine?.("smi-query begin", "stdout");
      throw new Failed("too late");
    });
    expect(facts.memory).toEqual({ seen: true, value: { totalMiB: 2, availableMiB: 1 } });
    expect(facts.incomplete).toBe("it took longer than 150 s");
  });

  test("that is lost is an error of the connection, and a signal is a signal", async () => {
    await expect(host(async () => Promise.reject(new TargetUnreachable("gone")))).rejects.toThrow("gone");
    const stop = new AbortController();
    stop.abort(new Error("stopped"));
    const aborted = collectNodeFacts(
      { run: async () => Promise.reject(new Failed("late")) },
      { dataDirectory: "/d", clock, signal: stop.signal },
    );
    await expect(aborted).rejects.toThrow("stopped");
  });

  test("to a host without a shell says so", async () => {
    const facts = await host(async () => ({ code: 1, signal: null, stdout: "", stderr: "This account is not available.\n" }));
    expect(facts.incomplete).toBe("This account is not available.");
  });

  test("takes the round trip from when the clock's own line arrived, not from when the script ended", async () => {
    const times = [1000, 1200, 9000];
    const now = (): Date => new Date(times.shift() ?? 9000);
    const record = `clock b${Buffer.from("1.1\n0").toString("base64")} b`;
    const facts = await collectNodeFacts(
      {
        run: async (_, { onLine, deadline }) => {
          expect(deadline).toBeGreaterThan(ms(60_000));
          onLine?.("clock begin", "stdout");
          onLine?.(record, "stdout");
          return { code: 0, signal: null, stdout: "", stderr: "" };
        },
      },
      { dataDirectory: "/d", clock: { now }, signal },
    );
    expect(facts.clock).toEqual({ seen: true, value: { skewMs: 0, boundMs: 150, synchronised: null } });
  });
});
