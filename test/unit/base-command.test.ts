import { Writable } from "node:stream";
import * as Flags from "@oclif/core/flags";
import { describe, expect, it } from "vitest";
import { BaseCommand } from "../../cli/src/base-command.js";
import { exitCodes, type ExitCodeName, PreflightRefused } from "../../cli/src/domain/errors.js";
import { runCommand } from "../support/run-command.js";

class Greet extends BaseCommand<typeof Greet> {
  static override flags = { name: Flags.string({ default: "world" }), count: Flags.integer() };

  execute(): Promise<{ hello: string }> {
    this.warn("the weather is unknown");
    this.progress.emit({ kind: "step", text: "greeting" });
    return Promise.resolve({ hello: this.flags.name });
  }

  override render(result: { hello: string }): string {
    return `hello ${result.hello}`;
  }
}

class Refuses extends BaseCommand<typeof Refuses> {
  execute(): Promise<never> {
    return Promise.reject(
      new PreflightRefused("gpu-1 cannot start a GPU container", {
        because: "the NVIDIA driver is 535.183 and the image needs 580 or newer",
        nextSteps: ["gpuctl host upgrade gpu-1", "or deploy with --device cpu"],
        data: { node: "gpu-1" },
      }),
    );
  }
}

class Crashes extends BaseCommand<typeof Crashes> {
  execute(): Promise<never> {
    return Promise.reject(new TypeError("x is not a function", { cause: new Error("the root of it") }));
  }
}

class HasChanges extends BaseCommand<typeof HasChanges> {
  execute(): Promise<{ changes: number }> {
    this.progress.emit({ kind: "phase", phase: "resolve", state: "end", elapsedMs: 12 });
    return Promise.resolve({ changes: 2 });
  }

  override successExit(result: { changes: number }): ExitCodeName {
    return result.changes > 0 ? "changesPending" : "ok";
  }
}

const document = (text: string): Record<string, unknown> => JSON.parse(text) as Record<string, unknown>;

describe("a command that works", () => {
  it("prints its result on stdout and everything else on stderr", async () => {
    const run = await runCommand(Greet, ["--name", "you"]);
    expect(run).toEqual({ stdout: "hello you\n", stderr: "Warning: the weather is unknown\ngreeting\n", exitCode: 0 });
  });

  it("prints exactly one JSON document under --json, with its warnings", async () => {
    const run = await runCommand(Greet, ["--json"]);
    expect(document(run.stdout)).toEqual({
      schemaVersion: 1,
      ok: true,
      result: { hello: "world" },
      warnings: ["the weather is unknown"],
    });
    expect(run.stderr).toContain("greeting");
  });

  it("says only warnings on stderr with --quiet", async () => {
    expect((await runCommand(Greet, ["-q"])).stderr).toBe("Warning: the weather is unknown\n");
  });

  it("may end with another code than 0 while its result is good", async () => {
    const run = await runCommand(HasChanges, ["--json"]);
    expect(run.exitCode).toBe(exitCodes.changesPending);
    expect(document(run.stdout)).toMatchObject({ ok: true, events: [{ kind: "phase", phase: "resolve", state: "end" }] });
  });
});

describe("a command that fails", () => {
  it("says what, why and what to type next, and exits by the error's class", async () => {
    const run = await runCommand(Refuses, []);
    expect(run.exitCode).toBe(exitCodes.preflightRefused);
    expect(run.stdout).toBe("");
    expect(run.stderr).toBe(
      [
        "Error: gpu-1 cannot start a GPU container",
        "  Because the NVIDIA driver is 535.183 and the image needs 580 or newer.",
        "Next:",
        "  gpuctl host upgrade gpu-1",
        "  or deploy with --device cpu",
        "",
      ].join("\n"),
    );
  });

  it("prints the same facts as one document under --json, with the same exit code", async () => {
    const run = await runCommand(Refuses, ["--json"]);
    expect(run.exitCode).toBe(exitCodes.preflightRefused);
    expect(run.stderr).toBe("");
    expect(document(run.stdout)).toEqual({
      schemaVersion: 1,
      ok: false,
      error: {
        name: "PreflightRefused",
        message: "gpu-1 cannot start a GPU container",
        because: "the NVIDIA driver is 535.183 and the image needs 580 or newer",
        nextSteps: ["gpuctl host upgrade gpu-1", "or deploy with --device cpu"],
        exitCode: 5,
        data: { node: "gpu-1" },
      },
      warnings: [],
    });
  });

  it.each([
    ["a flag that does not exist", ["--nope"]],
    ["a value that does not parse", ["--count", "many"]],
    ["an argument too many", ["extra"]],
  ])("calls %s a usage error, 2 in both modes", async (_what, argv) => {
    const human = await runCommand(Greet, argv);
    const json = await runCommand(Greet, [...argv, "--json"]);
    expect([human.exitCode, json.exitCode]).toEqual([exitCodes.usage, exitCodes.usage]);
    expect(human.stderr).toContain("gpuctl greet --help");
    expect(document(json.stdout)).toMatchObject({ ok: false, error: { name: "UsageError", exitCode: 2 } });
  });

  it("does not take a --json behind -- for its own", async () => {
    const run = await runCommand(Greet, ["--", "--json"]);
    expect(run.stdout).toBe("");
    expect(run.exitCode).toBe(exitCodes.usage);
  });

  it("calls an unknown error a bug, with a stack only under GPUCTL_DEBUG", async () => {
    const plain = await runCommand(Crashes, []);
    expect(plain.exitCode).toBe(exitCodes.bug);
    expect(plain.stderr).toContain("this is a bug in gpuctl");
    expect(plain.stderr).not.toContain("base-command.test");
    const debug = await runCommand(Crashes, [], { env: { GPUCTL_DEBUG: "1" } });
    expect(debug.stderr).toContain("base-command.test");
    expect(debug.stderr).toContain("caused by: Error: the root of it");
  });
});

describe("a reader that goes away", () => {
  class Endless extends BaseCommand<typeof Endless> {
    execute(): Promise<void> {
      const { signal } = this;
      return new Promise((_resolve, reject) => {
        signal.addEventListener("abort", () => {
          reject(new Error("stopped reading"));
        });
        this.stream("one", { line: "one" });
      });
    }

    protected override streams(): boolean {
      return true;
    }
  }

  it("ends an endless command without a word", async () => {
    const closedPipe = new Writable({
      write(_chunk, _encoding, done) {
        done(Object.assign(new Error("write EPIPE"), { code: "EPIPE" }));
      },
    });
    const run = await runCommand(Endless, [], {
      prepare: (command) => {
        command.io = { ...command.io, stdout: closedPipe };
      },
    });
    expect(run).toEqual({ stdout: "", stderr: "", exitCode: 0 });
  });
});
