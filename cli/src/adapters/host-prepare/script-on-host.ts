import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Failed } from "../../domain/errors.js";
import { ms, type Milliseconds } from "../../domain/units.js";
import type { CommandResult, HostConnector, RemoteHost } from "../../ports.js";
import type { HostPreparer, ScriptExit } from "../../ports/host-preparer.js";

const folder = "/var/lib/gpuctl/host";
const onHost = `${folder}/prepare-host.sh`;
/** A driver that is built on the host, over a slow line. */
const runDeadline = ms(3_600_000);
const askDeadline = ms(60_000);
/** The script comes by one rename: a run that is under way keeps the one it began with. */
const place = `umask 077 && mkdir -p "$1" && cat >"$1/.arrived.$$" && mv "$1/.arrived.$$" "$1/prepare-host.sh"`;
/** A client without its engine is the half of an interrupted installation: nothing runs there. */
const engine = `command -v docker >/dev/null && command -v dockerd >/dev/null || exit 127; exec docker "$@"`;

export interface ScriptOptions {
  hosts: HostConnector;
  /** Directory of the installed package. */
  packageRoot: string;
}

/** The script of this package, run on hosts over SSH. */
export class ScriptOnHost implements HostPreparer {
  readonly #options: ScriptOptions;
  #text: Promise<string> | null = null;

  constructor(options: ScriptOptions) {
    this.#options = options;
  }

  async script(): Promise<string> {
    return createHash("sha256")
      .update(await this.#script())
      .digest("hex");
  }

  async run(node: string, job: Parameters<HostPreparer["run"]>[1], signal: AbortSignal): Promise<ScriptExit> {
    const host = await this.#options.hosts.connectAsRoot(node, signal);
    const input = await this.#script();
    const placed = await host.run({ argv: ["sh", "-c", place, "place", folder], input }, { deadline: askDeadline, signal });
    if (placed.code !== 0) throw refused(node, "the script cannot be placed on it", placed);
    const mode = job.mode === "upgrade" ? ["--upgrade", "-"] : ["-"];
    const said: string[] = [];
    const { code } = await host.run(
      { argv: ["bash", onHost, ...mode], input: job.values },
      {
        deadline: runDeadline,
        signal,
        output: "lines",
        onLine(line, stream) {
          if (stream === "stdout") job.onLine(line);
          else if (said.push(line) > 10) said.shift();
        },
      },
    );
    return { code, said: said.join("\n") };
  }

  async check(node: string, signal: AbortSignal): Promise<string | null> {
    const { code, stdout } = await this.#ask(node, ["bash", onHost, "--check"], signal);
    return code === 127 || stdout === "" ? null : stdout;
  }

  async result(node: string, signal: AbortSignal): Promise<string | null> {
    const { code, stdout } = await this.#ask(node, ["cat", `${folder}/result.json`], signal);
    return code === 0 ? stdout : null;
  }

  async logTail(node: string, signal: AbortSignal): Promise<readonly string[]> {
    const files = ["/var/log/gpuctl/prepare.jsonl", "/var/log/gpuctl/apt.log"];
    const { stdout } = await this.#ask(node, ["tail", "-q", "-n", "8", ...files], signal);
    return stdout.split("\n").filter((line) => line !== "");
  }

  async serving(node: string, signal: AbortSignal): Promise<readonly string[] | null> {
    const argv = ["sh", "-c", engine, "docker", "ps", "--filter", "label=dev.gpuctl.instance", "--format", "{{.Names}}"];
    const { code, stdout } = await this.#ask(node, argv, signal);
    if (code === 127) return [];
    return code === 0 ? stdout.split("\n").filter((name) => name !== "") : null;
  }

  async bootId(node: string, deadline: Milliseconds, signal: AbortSignal): Promise<string> {
    const host = await this.#options.hosts.connect(node, signal);
    // A connection from before a restart looks alive until its first silence.
    await host.close();
    const { stdout } = await host.run({ argv: ["cat", "/proc/sys/kernel/random/boot_id"] }, { deadline, signal });
    return stdout.trim();
  }

  async #ask(node: string, argv: readonly string[], signal: AbortSignal): Promise<CommandResult> {
    const host: RemoteHost = await this.#options.hosts.connectAsRoot(node, signal);
    const [program = "true", ...rest] = argv;
    return host.run({ argv: [program, ...rest] }, { deadline: askDeadline, signal });
  }

  #script(): Promise<string> {
    this.#text ??= readFile(join(this.#options.packageRoot, "infra/host/prepare-host.sh"), "utf8");
    return this.#text;
  }
}

function refused(node: string, what: string, { stdout, stderr }: CommandResult): Failed {
  const said = (stderr.trim() || stdout.trim()).split("\n").at(-1) ?? "";
  return new Failed(`${node}: ${what}`, {
    because: said === "" ? "the host said nothing" : said,
    nextSteps: ["log in as root, or as a user with passwordless sudo: user: in gpuctl.yaml", "df -h /var"],
  });
}
