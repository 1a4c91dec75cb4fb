import { Command } from "@oclif/core/command";
import * as Flags from "@oclif/core/flags";
import type { Interfaces } from "@oclif/core";
import type { LoadRequest } from "./app/load-config.js";
import type { EnvironmentConfig } from "./domain/config/resolved.js";
import { exitCodes, type ExitCodeName } from "./domain/errors.js";
import { errorText, reportError } from "./error-report.js";
import { type Io, processIo } from "./io.js";
import { asksForJson, jsonDocument, type Outcome } from "./json-document.js";
import type { Context, Progress, ProgressEvent } from "./ports.js";
import { Redaction } from "./domain/redaction.js";
import { SignalWatch } from "./signals.js";
import type { NodeChoice } from "./wiring.js";

export type FlagsOf<T extends typeof Command> = Interfaces.InferredFlags<(typeof BaseCommand)["baseFlags"] & T["flags"]>;
export type ArgsOf<T extends typeof Command> = Interfaces.InferredArgs<T["args"]>;

/**
 * What every command shares: global flags, streams, the JSON document, signals and the way from an error to an exit code.
 * A command parses, calls one use case in `execute` and turns its result into text in `render`.
 */
export abstract class BaseCommand<T extends typeof Command> extends Command {
  static override baseFlags = {
    json: Flags.boolean({ description: "Print exactly one JSON document on stdout.", helpGroup: "GLOBAL" }),
    config: Flags.string({
      description: "Project file (default: $GPUCTL_CONFIG, else gpuctl.yaml here or above).",
      helpGroup: "GLOBAL",
      helpValue: "FILE",
    }),
    environment: Flags.string({
      char: "e",
      description: "Environment of the project file (default: $GPUCTL_ENVIRONMENT, else the project's default).",
      helpGroup: "GLOBAL",
      helpValue: "NAME",
    }),
    quiet: Flags.boolean({ char: "q", description: "No progress on stderr; warnings and errors stay.", helpGroup: "GLOBAL" }),
    "no-color": Flags.boolean({ description: "No colours (also: NO_COLOR, TERM=dumb).", helpGroup: "GLOBAL" }),
  };

  /** Replaced by tests. */
  io: Io = processIo();
  protected flags!: FlagsOf<T>;
  protected args!: ArgsOf<T>;
  protected progress: Progress = {
    emit: (event) => {
      this.#note(event);
    },
  };
  readonly #warnings: string[] = [];
  readonly #events: ProgressEvent[] = [];
  #signals: SignalWatch | undefined;
  readonly #redaction = new Redaction();
  #outputClosed = false;
  #close: (() => Promise<void>) | undefined;

  /** Calls the use case. What it returns is `result` of the JSON document. */
  abstract execute(): Promise<unknown>;

  /** The result as text for stdout. An empty string prints nothing. */
  render(result: unknown): string {
    return JSON.stringify(result, null, 2);
  }

  /** The exit code of a command that did its work: `plan --exit-code` says `changesPending` here. */
  successExit(_result: unknown): ExitCodeName {
    return "ok";
  }

  /** The same as a number, for a command that ends as something it ran did (`exec`). */
  protected exitStatus(result: unknown): number {
    return exitCodes[this.successExit(result)];
  }

  /** Values given by this command's own flags that override the project file: key path -> value. */
  protected configFlags(): Readonly<Record<string, unknown>> {
    return {};
  }

  override async run(): Promise<void> {
    this.#watchStreams();
    // oclif would warn about a command line that does not parse, on top of the error that says so.
    this.parsed = true;
    const { args, flags } = await this.parse(this.ctor as unknown as Interfaces.Input<FlagsOf<T>, FlagsOf<T>, ArgsOf<T>>);
    this.args = args;
    this.flags = flags;
    const renderer = await this.progressRenderer();
    this.progress = {
      emit: (told) => {
        const event = this.#redaction.of(told);
        this.#note(event);
        renderer.emit(event);
      },
    };
    try {
      const result = await this.execute();
      renderer.end();
      this.#succeed(result);
    } finally {
      await this.#close?.();
      renderer.end();
      this.#signals?.dispose();
    }
  }

  /** Aborted by the first SIGINT or SIGTERM. Until a command asks for it, a signal ends the process as usual. */
  protected get signal(): AbortSignal {
    this.#signals ??= new SignalWatch((text) => void this.io.stderr.write(this.io.stderrIsTTY ? `\n${text}` : text));
    return this.#signals.signal;
  }

  /** What finding and reading the configuration takes; for commands that look at the configuration itself. */
  protected async configRequest(): Promise<LoadRequest> {
    const { configFiles } = await import("./wiring.js");
    return {
      files: await configFiles(this.io.cwd),
      configPath: this.flags.config,
      environment: this.flags.environment,
      env: this.io.env,
      cwd: this.io.cwd,
      flags: this.configFlags(),
      inventories: async () => (await import("./wiring/infra.js")).createInventories(this.toolsRequest()),
    };
  }

  /** The environment that the flags, GPUCTL_* and the files name, after precedence. Throws ConfigInvalid with every problem. */
  protected async loadConfig(): Promise<EnvironmentConfig> {
    const { loadEnvironment } = await import("./app/load-config.js");
    const config = await loadEnvironment(await this.configRequest());
    await this.warnOfVariables();
    return config;
  }

  /** A mistyped variable changes nothing, which would look as if gpuctl had ignored it. */
  protected async warnOfVariables(): Promise<void> {
    const { unknownVariables } = await import("./domain/config/override-layer.js");
    for (const { name, guess } of unknownVariables(this.io.env))
      this.warn(`${name} is not a variable of gpuctl${guess === null ? "" : `; did you mean ${guess}?`}`);
  }

  /** Everything a use case may touch: the configuration resolved and the adapters of its target. */
  protected async context(choice: NodeChoice = {}): Promise<Context> {
    const config = await this.loadConfig();
    const { createContext } = await import("./wiring.js");
    const context = await createContext(config, this.toolsRequest(), choice);
    this.#close = () => context.close?.() ?? Promise.resolve();
    return context;
  }

  /** What wiring needs to build adapters; for commands that work without an environment (`createTools`). */
  protected toolsRequest(): {
    env: Io["env"];
    progress: Progress;
    signal: AbortSignal;
    gpuctlVersion: string;
    packageRoot: string;
    redaction: Redaction;
    acceptNewHostKeys: boolean;
  } {
    return {
      acceptNewHostKeys: "accept-new-host-keys" in this.flags && this.flags["accept-new-host-keys"] === true,
      env: this.io.env,
      progress: this.progress,
      signal: this.signal,
      gpuctlVersion: this.config.version,
      packageRoot: this.config.root,
      redaction: this.#redaction,
    };
  }

  /** Said on stderr at once and again in `warnings` of the JSON document. */
  override warn<W extends Error | string>(input: W): W {
    this.progress.emit({ kind: "warning", text: typeof input === "string" ? input : input.message });
    return input;
  }

  /** Writes a part of a long result while it arrives (`logs -f`): text for people, one JSON object a line under `--json`. */
  protected stream(text: string, record: unknown): void {
    if (!this.#outputClosed) this.io.stdout.write(`${this.json ? JSON.stringify(record) : text}\n`);
  }

  /** A command that streams answers true: its result has been written, so `--json` adds no document when it ends well. */
  protected streams(): boolean {
    return false;
  }

  /** Whether `--json` was given; known even when the rest of the command line does not parse. */
  protected get json(): boolean {
    return asksForJson(this.argv);
  }

  /** Replaced by tests that look at events rather than text. */
  protected async progressRenderer(): Promise<Progress & { end(): void }> {
    const { terminalProgress } = await import("./wiring.js");
    return terminalProgress(this.io, { quiet: this.flags.quiet });
  }

  protected override catch(thrown: unknown): Promise<void> {
    if (this.#outputClosed && this.#signals?.caught == null) return Promise.resolve();
    const told = reportError(thrown, {
      commandId: (this.id ?? "").replaceAll(":", " "),
      signal: this.#signals?.caught ?? null,
      debug: Boolean(this.io.env["GPUCTL_DEBUG"]),
    });
    const report = this.#redaction.of(told);
    this.io.setExitCode(report.exitCode);
    if (this.json) this.#print({ ok: false, error: report });
    else this.io.stderr.write(errorText(report));
    return Promise.resolve();
  }

  #succeed(result: unknown): void {
    this.io.setExitCode(this.exitStatus(result));
    if (this.streams()) return;
    if (this.json) {
      this.#print({ ok: true, result: result ?? null });
      return;
    }
    const text = this.render(result);
    if (text !== "") this.io.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
  }

  #print(outcome: Outcome): void {
    this.io.stdout.write(jsonDocument(outcome, { warnings: this.#warnings, events: this.#events }, this.streams()));
  }

  #note(event: ProgressEvent): void {
    if (event.kind === "warning") this.#warnings.push(event.text);
    if (event.kind === "phase") this.#events.push(event);
  }

  /** `gpuctl logs | head -1` ends quietly: nobody reads on, so the work stops. */
  #watchStreams(): void {
    this.io.stdout.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
      this.#outputClosed = true;
      this.#signals?.abort(error);
    });
    this.io.stderr.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
    });
  }
}
