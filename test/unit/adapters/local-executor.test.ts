import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { LocalExecutor } from "../../../cli/src/adapters/exec/local-executor.js";
import { Failed, TargetUnreachable } from "../../../cli/src/domain/errors.js";
import { ms } from "../../../cli/src/domain/units.js";
import { until } from "../../support/until.js";

const executor = new LocalExecutor({ PATH: process.env["PATH"], BASE: "kept" });
const minute = { deadline: ms(60_000) };
const node = (script: string): [string, ...string[]] => [process.execPath, "-e", script];

describe("a command on this machine", () => {
  let scratch: string;
  beforeEach(() => {
    scratch = mkdtempSync(join(tmpdir(), "gpuctl-exec-"));
  });
  afterEach(() => {
    rmSync(scratch, { recursive: true });
  });

  it("gets its argv untouched by any shell, its input, folder and environment", async () => {
    const script = `process.stdin.on("data", (text) => console.log(JSON.stringify([process.argv.slice(1), String(text), process.cwd(), process.env.BASE, process.env.OWN])))`;
    const argv: [string, ...string[]] = [...node(script), "a b", "$HOME; rm -rf /", "`id`"];
    const result = await executor.run({ argv, input: "secret", cwd: scratch, env: { OWN: "given" } }, minute);
    expect(result.code).toBe(0);
    expect(JSON.parse(result.stdout)).toEqual([["a b", "$HOME; rm -rf /", "`id`"], "secret", scratch, "kept", "given"]);
  });

  it("is judged by its exit status and by nothing else", async () => {
    const loud = await executor.run({ argv: node("console.error('all is well'); process.exit(0)") }, minute);
    expect(loud).toMatchObject({ code: 0, stderr: "all is well\n" });
    expect(await executor.run({ argv: node("process.exit(3)") }, minute)).toMatchObject({ code: 3, signal: null });
    expect(await executor.run({ argv: node("process.kill(process.pid, 'SIGKILL')") }, minute)).toMatchObject({
      code: null,
      signal: "SIGKILL",
    });
  });

  it("gives whole lines as they arrive, even when a character is cut in two by the pipe", async () => {
    const script = `
      const bytes = Buffer.from("grüße\\nnoch eine");
      process.stdout.write(bytes.subarray(0, 3), () => setTimeout(() => process.stdout.write(bytes.subarray(3)), 50));`;
    const lines: string[] = [];
    const result = await executor.run(
      { argv: node(script) },
      { ...minute, onLine: (line, stream) => lines.push(`${stream}: ${line}`) },
    );
    expect(lines).toEqual(["stdout: grüße", "stdout: noch eine"]);
    expect(result.stdout).toBe("grüße\nnoch eine");
  });

  it("that is not installed is an unreachable target with a next step, not a crash", async () => {
    await expect(executor.run({ argv: ["gpuctl-no-such-program"] }, minute)).rejects.toThrow(TargetUnreachable);
  });

  it("is ended past its deadline, with everything it started", async () => {
    const child = join(scratch, "child");
    const script = `
      const { spawn } = require("node:child_process");
      const own = spawn(process.execPath, ["-e", "setInterval(() => undefined, 1000)"], { stdio: "ignore" });
      require("node:fs").writeFileSync(${JSON.stringify(child)}, String(own.pid));
      setInterval(() => undefined, 1000);`;
    await expect(executor.run({ argv: node(script) }, { deadline: ms(1000) })).rejects.toThrow(Failed);
    const pid = Number(readFileSync(child, "utf8"));
    await until(() => !isAlive(pid), "the command's own child ends");
  });

  it("is ended by the signal, which says why", async () => {
    const abort = new AbortController();
    const running = executor.run(
      { argv: node("console.log('up'); setInterval(() => undefined, 1000)") },
      {
        ...minute,
        signal: abort.signal,
        onLine: () => {
          abort.abort(new Failed("enough"));
        },
      },
    );
    await expect(running).rejects.toThrow("enough");
  });

  it("that ignores SIGTERM is killed", async () => {
    const abort = new AbortController();
    const script = "process.on('SIGTERM', () => undefined); console.log('up'); setInterval(() => undefined, 1000)";
    const onLine = () => {
      abort.abort(new Failed("enough"));
    };
    await expect(executor.run({ argv: node(script) }, { ...minute, signal: abort.signal, onLine })).rejects.toThrow("enough");
  });

  it("that leaves a daemon behind holding its output is still over when it ends", async () => {
    const script = `
      const { spawn } = require("node:child_process");
      const daemon = spawn(process.execPath, ["-e", "setTimeout(() => undefined, 5000)"], { stdio: ["ignore", "inherit", "inherit"], detached: true });
      daemon.unref();
      console.log(daemon.pid);`;
    const begun = performance.now();
    const result = await executor.run({ argv: node(script) }, minute);
    expect(performance.now() - begun).toBeLessThan(4000);
    process.kill(Number(result.stdout), "SIGKILL");
  });
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !readFileSync(`/proc/${pid.toString()}/stat`, "utf8").includes(") Z ");
  } catch {
    return false;
  }
}
