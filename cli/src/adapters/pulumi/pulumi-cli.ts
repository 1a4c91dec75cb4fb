import { mkdir } from "node:fs/promises";
import { z } from "zod";
import { GpuctlError, PreflightRefused } from "../../domain/errors.js";
import { EventReader, type Summary, type Told } from "../../domain/infra/events.js";
import { jsonOrNull, parsePreview, type Diagnostic, type Preview } from "../../domain/infra/preview.js";
import { parseState, type StackState } from "../../domain/infra/state.js";
import { ms, type Milliseconds } from "../../domain/units.js";
import type { CommandResult, Executor } from "../../ports.js";
import type { Pulumi, PulumiFailure, PulumiOutcome, PulumiProject, StackPlace } from "../../ports/infra.js";
import type { Environment } from "../state/directories.js";
import { readProject, type ReadProject } from "./pulumi-project.js";

/** For questions about state, which lies on this machine or one request away. */
const questionDeadline = ms(120_000);
/** Previews run the program and ask the provider; the first one may install plugins. */
const previewDeadline = ms(30 * 60_000);
/** Hosts are prepared by drivers, reboots and downloads, one behind the other. */
const changeDeadline = ms(6 * 3_600_000);
/** How long Pulumi may take to end its running operations and to write its state. */
const stopGrace = ms(20 * 60_000);

export interface PulumiOptions {
  place: StackPlace;
  executor: Executor;
  env: Environment;
  signal: AbortSignal;
  /** The provider's token; null where the user's own environment or the stack's configuration has it. */
  token: () => Promise<string | null>;
}

/** The `pulumi` on PATH, as a process. Secrets are in its environment, never in its arguments. */
export class PulumiCli implements Pulumi {
  readonly #options: PulumiOptions;
  #project: Promise<ReadProject> | undefined;

  constructor(options: PulumiOptions) {
    this.#options = options;
  }

  async project(): Promise<PulumiProject> {
    const { name, directory, configured, backend, givenBackend, embedded } = await this.#read();
    return { name, directory, configured, backend, givenBackend, embedded, platform: platform() };
  }

  preview(stack: string): Promise<PulumiOutcome<Preview>> {
    return this.#previewed(["preview", "--stack", stack, "--json", "--non-interactive"]);
  }

  previewDestroy(stack: string, keepProtected: boolean): Promise<PulumiOutcome<Preview>> {
    return this.#previewed([
      "destroy",
      "--stack",
      stack,
      "--preview-only",
      "--json",
      "--non-interactive",
      ...only(keepProtected),
    ]);
  }

  async create(stack: string): Promise<PulumiOutcome<null>> {
    const { embedded } = await this.#read();
    const provider = embedded ? ["--secrets-provider", "passphrase"] : [];
    const result = await this.#run(["stack", "init", stack, "--no-select", "--non-interactive", ...provider], questionDeadline);
    return result.code === 0 ? { ok: true, value: null } : failureOf(result);
  }

  async configure(stack: string, values: Readonly<Record<string, string>>): Promise<PulumiOutcome<null>> {
    const pairs = Object.entries(values).flatMap(([path, value]) => ["--plaintext", `${path}=${value}`]);
    const argv = ["config", "set-all", "--path", ...pairs, "--stack", stack, "--non-interactive"];
    const result = await this.#run(argv, questionDeadline);
    return result.code === 0 ? { ok: true, value: null } : failureOf(result);
  }

  up(stack: string, tell: (told: Told) => void): Promise<PulumiOutcome<Summary>> {
    return this.#changed(["up", "--stack", stack, "--yes", "--skip-preview", "--json", "--non-interactive"], tell);
  }

  destroy(stack: string, keepProtected: boolean, tell: (told: Told) => void): Promise<PulumiOutcome<Summary>> {
    const flags = ["--yes", "--skip-preview", "--json", "--non-interactive", ...only(keepProtected)];
    return this.#changed(["destroy", "--stack", stack, ...flags], tell);
  }

  async state(stack: string): Promise<PulumiOutcome<StackState>> {
    const result = await this.#run(["stack", "export", "--stack", stack, "--non-interactive"], questionDeadline);
    const value = result.code === 0 ? parseState(result.stdout) : null;
    return value === null ? failureOf(result) : { ok: true, value };
  }

  async outputs(stack: string): Promise<PulumiOutcome<Record<string, unknown>>> {
    const argv = ["stack", "output", "--json", "--show-secrets", "--stack", stack, "--non-interactive"];
    const result = await this.#run(argv, questionDeadline);
    const parsed = z.record(z.string(), z.unknown()).safeParse(result.code === 0 ? jsonOrNull(result.stdout) : null);
    return parsed.success ? { ok: true, value: parsed.data } : failureOf(result);
  }

  async stacks(): Promise<PulumiOutcome<readonly string[]>> {
    const { name } = await this.#read();
    const result = await this.#run(["stack", "ls", "--project", name, "--json", "--non-interactive"], questionDeadline);
    const parsed = z.array(z.object({ name: z.string() })).safeParse(result.code === 0 ? jsonOrNull(result.stdout) : null);
    return parsed.success ? { ok: true, value: parsed.data.map((stack) => stack.name) } : failureOf(result);
  }

  async #previewed(argv: readonly string[]): Promise<PulumiOutcome<Preview>> {
    const result = await this.#run(argv, previewDeadline);
    const value = parsePreview(result.stdout);
    if (result.code === 0 && value !== null) return { ok: true, value };
    return failureOf(
      result,
      (value?.diagnostics ?? []).filter(({ severity }) => severity === "error"),
    );
  }

  async #changed(argv: readonly string[], tell: (told: Told) => void): Promise<PulumiOutcome<Summary>> {
    const reader = new EventReader();
    const said: Diagnostic[] = [];
    const stderr: string[] = [];
    let summary: Summary = { changes: {}, seconds: 0 };
    const result = await this.#run(argv, changeDeadline, (line, stream) => {
      if (stream === "stderr") stderr.push(line);
      const told = stream === "stdout" ? reader.read(line) : null;
      if (told === null) return;
      if (told.kind === "summary") summary = told.summary;
      if (told.kind === "diagnostic" && told.diagnostic.severity !== "info") said.push(told.diagnostic);
      if (told.kind === "step" || (told.kind === "diagnostic" && told.diagnostic.severity !== "error")) tell(told);
    });
    return result.code === 0 ? { ok: true, value: summary } : failureOf({ ...result, stderr: stderr.join("\n") }, said);
  }

  async #run(
    argv: readonly string[],
    deadline: Milliseconds,
    onLine?: (line: string, stream: "stdout" | "stderr") => void,
  ): Promise<CommandResult> {
    const { executor, signal } = this.#options;
    const { directory } = await this.#read();
    const command = { argv: ["pulumi", ...argv] as [string, ...string[]], cwd: directory, env: await this.#environment() };
    const lines = onLine === undefined ? {} : { onLine, output: "lines" as const };
    try {
      return await executor.run(command, { deadline, signal, grace: stopGrace, ...lines });
    } catch (error) {
      throw missingProgram(error) ?? error;
    }
  }

  async #environment(): Promise<Record<string, string>> {
    const { setBackend, stateFolder } = await this.#read();
    if (setBackend !== null && stateFolder !== null) await mkdir(stateFolder, { recursive: true, mode: 0o700 });
    const token = await this.#options.token();
    return {
      PULUMI_SKIP_UPDATE_CHECK: "1",
      ...(setBackend === null ? {} : { PULUMI_BACKEND_URL: setBackend }),
      ...(token === null ? {} : { HCLOUD_TOKEN: token }),
    };
  }

  #read(): Promise<ReadProject> {
    this.#project ??= readProject(this.#options.place, this.#options.env);
    return this.#project;
  }
}

const only = (keepProtected: boolean): readonly string[] => (keepProtected ? ["--exclude-protected"] : []);

const failureOf = ({ stderr }: CommandResult, said: readonly Diagnostic[] = []): { ok: false } & PulumiFailure => ({
  ok: false,
  said,
  stderr,
});

/** `linux-amd64`, as the files of Pulumi's plugins are named. */
function platform(): string {
  const architecture = process.arch === "x64" ? "amd64" : process.arch;
  return `${system}-${architecture}`;
}

const system = process.platform === "win32" ? "windows" : process.platform;

/** `linux-x64.tar.gz`, as the files of Pulumi itself are named. */
const release = `${system}-${process.arch}.${system === "windows" ? "zip" : "tar.gz"}`;

/** The error for a machine without Pulumi; null for any other. */
function missingProgram(error: unknown): PreflightRefused | null {
  const cause = error instanceof GpuctlError ? error.cause : null;
  if (!(cause instanceof Error && "code" in cause && cause.code === "ENOENT")) return null;
  return new PreflightRefused("the pulumi program is not installed", {
    because: "gpuctl infra runs it, and it is not on PATH",
    nextSteps: [
      "curl -fsSL https://get.pulumi.com | sh   # or your system's package: https://www.pulumi.com/docs/install/",
      `without internet: unpack github.com/pulumi/pulumi/releases, pulumi-v<version>-${release}, into a folder on PATH`,
      "pulumi version   # then try again",
    ],
    cause: error,
  });
}
