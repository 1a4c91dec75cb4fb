/** A copy of the repository's Pulumi program in a folder of its own, and `pulumi` run on it as a person would. */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { run, type Ran } from "../bed/shell.js";
import { repository } from "../sandbox.js";
import { engineFolder } from "./engine.js";

/** What the program is made of; `infra/` imports nothing else of the repository. */
const parts = ["Pulumi.yaml", "package.json", "tsconfig.json", "infra", "cli/src/domain"];

/** One step of the engine: an operation on a resource, without the project's stack itself. */
export interface Step {
  op: string;
  type: string;
  name: string;
  /** Inputs that made it an update or a replacement. */
  because: readonly string[];
}

export interface Run extends Ran {
  steps: readonly Step[];
}

interface EngineEvent {
  resourcePreEvent?: { metadata: { op: string; urn: string; type: string; diffs: string[] | null; keys: string[] | null } };
}

export class PulumiProject {
  /** The copy: what a person would have checked out. */
  readonly folder: string;
  /** Environment of every command; where the provider doubles are is added by who starts them. */
  readonly env: Record<string, string>;
  #logs = 0;

  private constructor(folder: string, env: Record<string, string>) {
    this.folder = folder;
    this.env = env;
  }

  static async create(): Promise<PulumiProject> {
    const engine = await engineFolder();
    const folder = mkdtempSync(join(tmpdir(), "gpuctl-pulumi-"));
    for (const part of parts) cpSync(join(repository, part), join(folder, part), { recursive: true });
    symlinkSync(join(repository, "node_modules"), join(folder, "node_modules"));
    for (const made of ["state", "tmp"]) mkdirSync(join(folder, made));
    return new PulumiProject(folder, {
      PATH: [join(engine, "bin"), join(repository, "node_modules/.bin"), process.env["PATH"] ?? ""].join(delimiter),
      HOME: folder,
      // The language host leaves its pipes there.
      TMPDIR: join(folder, "tmp"),
      PULUMI_HOME: join(folder, "home"),
      PULUMI_BACKEND_URL: `file://${join(folder, "state")}`,
      PULUMI_CONFIG_PASSPHRASE: "of the tests",
      PULUMI_SKIP_UPDATE_CHECK: "1",
      // Shows --event-log, which writes what the engine does as JSON lines.
      PULUMI_DEBUG_COMMANDS: "true",
      // Every command loads the program anew, with some 700 modules.
      NODE_COMPILE_CACHE: join(engine, "compile-cache"),
      PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: "true",
    });
  }

  /** Runs `pulumi ARGS`; past its time it is killed. */
  pulumi(args: readonly string[], timeoutMs = 120_000): Promise<Ran> {
    const all = ["--cwd", this.folder, "--non-interactive", "--color", "never", ...args];
    return run("pulumi", all, { env: this.env, timeoutMs });
  }

  /** The same with the engine's steps: `up`, `preview`, `refresh` or `destroy`. */
  async operate(operation: string, args: readonly string[] = [], timeoutMs?: number): Promise<Run> {
    const log = join(this.folder, `events-${(this.#logs += 1)}.jsonl`);
    const asking = operation === "preview" ? [] : ["--yes", "--skip-preview"];
    const ran = await this.pulumi([operation, ...asking, "--event-log", log, ...args], timeoutMs);
    return { ...ran, steps: stepsIn(log) };
  }

  /** The same for an operation that must succeed. Throws with everything it said. */
  async must(operation: string, args: readonly string[] = []): Promise<readonly Step[]> {
    const { code, stdout, stderr, steps } = await this.operate(operation, args);
    if (code !== 0) throw new Error(`pulumi ${operation} ended with ${code ?? "a signal"}:\n${stdout}${stderr}`);
    return steps;
  }

  /** What the backend keeps of a stack, as text. */
  state(project: string, stack: string): string {
    return readFileSync(join(this.folder, "state/.pulumi/stacks", project, `${stack}.json`), "utf8");
  }

  /** A file of the copy, as text. */
  read(file: string): string {
    return readFileSync(join(this.folder, file), "utf8");
  }

  /** Edits a file of the copy. Throws when the text is not there once. */
  edit(file: string, text: string, replacement: string): void {
    const path = join(this.folder, file);
    const before = readFileSync(path, "utf8");
    if (before.split(text).length !== 2) throw new Error(`${file} has ${JSON.stringify(text)} not once`);
    writeFileSync(path, before.replace(text, replacement));
  }

  /** Ends what an engine that was killed has left running, and deletes the copy. */
  remove(): void {
    for (const pid of processesWith(this.folder)) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It ended by itself.
      }
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Processes whose command line names a folder. */
function processesWith(folder: string): number[] {
  const running = readdirSync("/proc").map(Number).filter(Number.isInteger);
  return running.filter((pid) => pid !== process.pid && commandLine(pid).includes(folder));
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    // It ended in between.
    return "";
  }
}

function stepsIn(log: string): Step[] {
  let lines: string[];
  try {
    lines = readFileSync(log, "utf8").split("\n");
  } catch {
    // A command that was refused before it began leaves no log.
    return [];
  }
  const events = lines.filter((line) => line !== "").map((line) => JSON.parse(line) as EngineEvent);
  return events
    .flatMap(({ resourcePreEvent: event }) => (event === undefined ? [] : [event.metadata]))
    .map(({ op, urn, type, diffs, keys }) => ({
      op,
      type,
      name: urn.split("::").slice(3).join("::"),
      because: [...new Set([...(diffs ?? []), ...(keys ?? [])])].sort(),
    }));
}
