import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { LocalExecutor } from "../../../../../cli/src/adapters/exec/local-executor.js";
import { SshHostConnector } from "../../../../../cli/src/adapters/ssh/host-connector.js";
import { HostCommands } from "../../../../../cli/src/adapters/targets/compose/host-commands.js";
import { ms } from "../../../../../cli/src/domain/units.js";
import type { Lease, RemoteHost } from "../../../../../cli/src/ports.js";
import { fencedStatus } from "../../../../../cli/src/adapters/remote-state/fence.js";

/** What a command of Docker answers: a pattern of `case` in sh over its arguments, and what it prints. */
export interface Reply {
  to: string;
  stdout?: string;
  stderr?: string;
  code?: number;
}

/** A host whose scripts run for real in a shell of this machine, with a `docker` that says what a test wants and remembers what it was asked. */
export class ScriptedHost {
  readonly directory = mkdtempSync(join(tmpdir(), "gpuctl-host-"));
  readonly root = join(this.directory, "data/shop/prod");
  readonly commands: HostCommands;
  readonly #connector: SshHostConnector;
  /** Lease tokens below it are refused. */
  newest = 1;

  constructor() {
    const bin = join(this.directory, "bin");
    mkdirSync(bin, { recursive: true });
    mkdirSync(this.root, { recursive: true });
    for (const each of ["gates", "orders"]) mkdirSync(join(this.root, each));
    // Owners are remembered, not set: tests need no root. A file has the owner of the copy that got its name.
    const owners = `${this.directory}/owners`;
    this.program("chown", `printf '%s %s\\n' "$1" "\${2%.????????}" >>'${owners}'`);
    this.program(
      "stat",
      `PATH=$(printf %s "$PATH" | sed 's|^[^:]*:||'); for p in "$@"; do :; done
case $2 in *%u*) echo "$(stat -c %a "$p") $(awk -v p="$p" '$2 == p { o = $1 } END { print o }' '${owners}')" ;; *) exec stat "$@" ;; esac`,
    );
    this.replies([]);
    const env = { ...process.env, PATH: `${bin}:${process.env["PATH"] ?? ""}` };
    this.#connector = new SshHostConnector({
      nodes: [{ name: "gpu-1", host: "local" }],
      ssh: { client: "node-ssh", knownHosts: null, connectTimeout: ms(1000), acceptNew: false },
      env,
      executor: new LocalExecutor(process.env),
      projectFile: join(this.directory, "gpuctl.yaml"),
    });
    this.commands = new HostCommands({
      node: "gpu-1",
      root: this.root,
      connect: (signal) => this.connect(signal),
      guard: ({ token }) =>
        `[ ${token} -ge "$(cat '${this.directory}/newest')" ] || { echo "lease ${token} is old" >&2; exit ${fencedStatus}; }`,
    });
    this.takeLease();
  }

  connect(signal: AbortSignal): Promise<RemoteHost> {
    return this.#connector.connect("gpu-1", signal);
  }

  /** What Docker answers from now on; the first pattern that fits counts, and everything else succeeds silently. */
  replies(replies: readonly Reply[]): void {
    const cases = replies.map(({ to, stdout = "", stderr = "", code = 0 }, position) => {
      const file = join(this.directory, `reply-${position}`);
      writeFileSync(file, stdout);
      writeFileSync(`${file}.err`, stderr);
      return `  ${to}) cat '${file}'; cat '${file}.err' >&2; exit ${code} ;;`;
    });
    const log = `printf 'docker %s\\n' "$*" >>'${this.directory}/asked'`;
    this.program("docker", [log, 'case "$*" in', ...cases, "esac", "exit 0"].join("\n"));
  }

  /** Every command of Docker so far, in order. */
  asked(): readonly string[] {
    return this.#lines("asked");
  }

  /** The same without those that only look. */
  changes(): readonly string[] {
    return this.asked().filter((line) => !/^docker (?:ps|inspect|image inspect|volume inspect|logs)/.test(line));
  }

  takeLease(): Lease {
    this.newest += 1;
    writeFileSync(join(this.directory, "newest"), this.newest.toString());
    return { token: this.newest, check: async () => undefined, release: async () => undefined };
  }

  text(path: string): string | null {
    // A timer of the host may take it away at any moment.
    return textOf(join(this.root, path));
  }

  /** Writes a file of the host, outside of the environment's directory. */
  file(path: string, text: string): void {
    const file = join(this.directory, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
  }

  async dispose(): Promise<void> {
    await this.#connector.close();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Gives the host a program of its own: a script of sh. */
  program(name: string, body: string): void {
    const file = join(this.directory, "bin", name);
    writeFileSync(file, `#!/bin/sh\n${body}\n`);
    chmodSync(file, 0o755);
  }

  #lines(name: string): readonly string[] {
    const text = textOf(join(this.directory, name)) ?? "";
    return text.split("\n").filter((line) => line !== "");
  }
}

function textOf(file: string): string | null {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}
