/** A folder with gpuctl.yaml and a Pulumi project, the stand-in for `pulumi` on PATH, and the real CLI. */
import { spawn } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { repository, type JsonDocument, type Ran } from "../sandbox.js";

const program = fileURLToPath(new URL("pulumi.mjs", import.meta.url));

/** What the stand-in answers to a command that begins with `begins`; the n-th answer that fits goes to the n-th same command. */
export interface Answer {
  begins: string;
  /** Recording in test/golden/pulumi, or an absolute path. */
  file?: string;
  stderr?: string;
  code?: number;
  /** Goes on until it is asked to stop. */
  waits?: true;
}

export interface Call {
  args: string[];
  cwd: string;
  env: Record<string, string>;
}

export class InfraSandbox {
  readonly directory = mkdtempSync(join(tmpdir(), "gpuctl-infra-"));
  readonly env: Record<string, string>;

  constructor(environment = "{ target: compose, inventory: stack prod }", extra = "") {
    for (const folder of ["bin", "stacks", "stand-in"]) mkdirSync(join(this.directory, folder));
    this.write("bin/pulumi", `#!/bin/sh\nexec "${process.execPath}" "${program}" "$@"\n`);
    chmodSync(join(this.directory, "bin/pulumi"), 0o755);
    this.write("Pulumi.yaml", "name: shop\nruntime: nodejs\nstackConfigDir: stacks\n");
    this.write("stacks/Pulumi.prod.yaml", "config: {}\n");
    this.write(
      "gpuctl.yaml",
      `version: 1\nproject: shop\nservices: { index: {} }\n${extra}environments:\n  prod: ${environment}\n`,
    );
    this.answers([]);
    this.env = {
      PATH: `${join(this.directory, "bin")}:${dirname(process.execPath)}:/usr/bin:/bin`,
      HOME: this.directory,
      XDG_STATE_HOME: join(this.directory, "state"),
      STAND_IN: join(this.directory, "stand-in"),
      NO_COLOR: "1",
    };
  }

  write(file: string, text: string): void {
    writeFileSync(join(this.directory, file), text);
  }

  read(file: string): string {
    return readFileSync(join(this.directory, file), "utf8");
  }

  /** A recording of Pulumi, changed. The path is for `file` of an answer. */
  changed(recording: string, change: (text: string) => string): string {
    this.write(`stand-in/${recording}`, change(readFileSync(golden(recording), "utf8")));
    return join(this.directory, "stand-in", recording);
  }

  answers(list: readonly Answer[]): void {
    const paths = list.map(({ file, ...answer }) =>
      file === undefined ? answer : { ...answer, file: file.startsWith("/") ? file : golden(file) },
    );
    this.write("stand-in/answers.json", JSON.stringify(paths));
    this.write("stand-in/calls.jsonl", "");
  }

  /** How the stand-in was called, in order. */
  calls(): Call[] {
    const file = join(this.directory, "stand-in/calls.jsonl");
    const lines = existsSync(file) ? readFileSync(file, "utf8").split("\n") : [];
    return lines.filter((line) => line !== "").map((line) => JSON.parse(line) as Call);
  }

  start(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    const child = spawn(process.execPath, [join(repository, "cli/bin/run.js"), ...args], {
      cwd: this.directory,
      env: { ...this.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let [stdout, stderr] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    const ended = new Promise<Ran>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code, signal) => {
        resolve({ code, signal, stdout, stderr });
      });
    });
    return { child, ended };
  }

  run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ran> {
    return this.start(args, env).ended;
  }

  async json(
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): Promise<{ code: number | null; document: JsonDocument }> {
    const { code, stdout } = await this.run([...args, "--json"], env);
    return { code, document: JSON.parse(stdout) as JsonDocument };
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

const golden = (file: string): string => join(repository, "test/golden/pulumi", file);
