import { existsSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { VenvRuntime } from "../../../cli/src/adapters/python/venv-runtime.js";
import { PythonEnvironments } from "../../../cli/src/adapters/targets/process/python-environment.js";
import { PreflightRefused } from "../../../cli/src/domain/errors.js";
import type { Command, CommandResult } from "../../../cli/src/ports.js";
import { CollectingProgress } from "../../fakes/collecting-progress.js";
import { ScriptedExecutor } from "../../fakes/scripted-executor.js";
import { SteppingClock } from "../../fakes/stepping-clock.js";
import { temporaryDirectories } from "../../support/temporary.js";

const temporary = temporaryDirectories();
const lock = "b".repeat(64);

/** A machine with one Python, whose venv module makes a folder with an interpreter. */
class PythonMachine {
  readonly cache = temporary();
  readonly progress = new CollectingProgress();
  readonly lockPath = join(this.cache, "runtime.txt");
  version: readonly [number, number] | null = [3, 11];
  pip: Partial<CommandResult> = { stdout: "Collecting a==1\nCollecting b==2\nSuccessfully installed" };
  readonly executor = new ScriptedExecutor((command) => this.#run(command));

  constructor() {
    writeFileSync(this.lockPath, "a==1 \\\n    --hash=sha256:1\nb==2\n");
  }

  get directory(): string {
    return join(this.cache, `python/${lock.slice(0, 16)}-cp311`);
  }

  runtime(env: Record<string, string> = {}): VenvRuntime {
    return new VenvRuntime({
      environments: new PythonEnvironments(this.cache),
      code: { current: () => Promise.resolve({ lock, lockPath: this.lockPath }) },
      executor: this.executor,
      clock: new SteppingClock(),
      progress: this.progress,
      signal: new AbortController().signal,
      env,
    });
  }

  #run({ argv }: Command): Partial<CommandResult> {
    if (argv[1] === "-c")
      return this.version === null ? { code: 1 } : { stdout: JSON.stringify([...this.version, "/usr/bin/python3"]) };
    if (argv.includes("pip")) return this.pip;
    mkdirSync(join(argv.at(-1) ?? "", "bin"), { recursive: true });
    symlinkSync(process.execPath, join(argv.at(-1) ?? "", "bin/python"));
    return {};
  }
}

describe("the Python environment of this gpuctl", () => {
  it("is made by hash from the packaged lock, once", async () => {
    const machine = new PythonMachine();
    expect(await machine.runtime().find()).toBeNull();
    expect(await machine.runtime().ensure()).toEqual({ python: join(machine.directory, "bin/python"), made: true });
    const pip = machine.executor.commands.find(({ argv }) => argv.includes("pip"));
    expect(pip?.argv).toEqual(expect.arrayContaining(["--require-hashes", "-r", machine.lockPath]));
    expect(machine.progress.events).toContainEqual({
      kind: "amount",
      label: "Python packages",
      done: 2,
      total: 2,
      unit: "packages",
    });
    const before = machine.executor.commands.length;
    expect(await machine.runtime().ensure()).toMatchObject({ made: false });
    expect(machine.executor.commands).toHaveLength(before);
  });

  it("is made once by two that ask at the same time", async () => {
    const machine = new PythonMachine();
    const made = await Promise.all([machine.runtime().ensure(), machine.runtime().ensure()]);
    expect(made.map((each) => each.made).sort()).toEqual([false, true]);
    expect(existsSync(`${machine.directory}.lock`)).toBe(false);
  });

  it("is not complete when pip fails, and the error ends with what pip said", async () => {
    const machine = new PythonMachine();
    machine.pip = { code: 1, stderr: "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES" };
    await expect(machine.runtime().ensure()).rejects.toMatchObject({
      because: expect.stringContaining("DO NOT MATCH THE HASHES") as unknown,
    });
    expect(await machine.runtime().find()).toBeNull();
    machine.pip = {};
    expect(await machine.runtime().ensure()).toMatchObject({ made: true });
  });

  it("is made with the Python that GPUCTL_PYTHON names, or not at all", async () => {
    const machine = new PythonMachine();
    machine.version = null;
    await expect(machine.runtime({ GPUCTL_PYTHON: "/opt/py/bin/python3" }).ensure()).rejects.toBeInstanceOf(PreflightRefused);
    expect(machine.executor.commands.map(({ argv }) => argv[0])).toEqual(["/opt/py/bin/python3"]);
  });

  it("takes over from a set-up whose process is gone", async () => {
    const machine = new PythonMachine();
    mkdirSync(dirname(machine.directory), { recursive: true });
    writeFileSync(`${machine.directory}.lock`, "4194305\n");
    expect(await machine.runtime().ensure()).toMatchObject({ made: true });
  });

  it.each<[string, readonly [number, number] | null]>([
    ["too old", [3, 10]],
    ["without venv", null],
  ])("cannot be made with a Python that is %s, and the error says how to get one", async (_, version) => {
    const machine = new PythonMachine();
    machine.version = version;
    const failure = machine.runtime().ensure();
    await expect(failure).rejects.toBeInstanceOf(PreflightRefused);
    await expect(failure).rejects.toMatchObject({
      nextSteps: [expect.stringContaining("python3-venv"), expect.stringContaining("GPUCTL_PYTHON")] as unknown[],
    });
  });
});
