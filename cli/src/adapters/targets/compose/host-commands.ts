import type { SentLayer } from "../../../domain/compose/image-manifest.js";
import { ms, type Milliseconds } from "../../../domain/units.js";
import type { Command, CommandResult, ExecuteOptions, Lease, RemoteHost } from "../../../ports.js";
import { sha256 } from "../../../domain/canonical.js";
import { leaseCheck } from "../../../domain/rehearsal.js";
import { dockerError } from "./docker-errors.js";
import { RehearsedHost, type NodeRehearsal } from "./rehearsal.js";

/** A look at the engine, or a small change: seconds on a busy host. */
const usualDeadline = ms(60_000);

export interface HostCommandsOptions {
  /** The node's name in gpuctl.yaml. */
  node: string;
  /** Directory of the environment there. */
  root: string;
  /** As root. */
  connect(signal: AbortSignal): Promise<RemoteHost>;
  /** Lines of POSIX sh that end a script, with the status of a lost lease, unless this lease is still the newest on the host. */
  guard(lease: Lease): string;
  /** Set in a dry run: nothing is changed, and it is told what would be. */
  rehearsal?: NodeRehearsal;
}

/** One script of POSIX sh; values are its arguments, never part of its text. */
export interface HostScript {
  text: string;
  args: readonly string[];
  /** For the message when it fails: `the container could not be started`. */
  failure: string;
  input?: string;
  deadline?: Milliseconds;
  signal?: AbortSignal;
}

/**
 * Arguments: FILE BYTES MODE OWNER. Nothing has the file's name before all of it is on the disk, and nobody sees it with another
 * owner or mode. What was cut off by a lost connection is shorter than it should be.
 */
const writing = `trap '' PIPE; umask 077
t=$(mktemp "$1.XXXXXXXX") || exit 1
trap 'rm -f "$t"' EXIT; trap 'exit 129' HUP; trap 'exit 143' TERM
cat >"$t" || exit 1
if [ "$(wc -c <"$t")" -ne "$2" ]; then echo "the input ended early" >&2; exit 65; fi
chmod "$3" "$t" && chown "$4" "$t" || exit 1
sync "$t" 2>/dev/null || sync
mv -f "$t" "$1" && { sync "$(dirname "$1")" 2>/dev/null || sync; }`;

/** Runs what the driver wants on one host. What changes something goes through `change`, which the host itself refuses for an old lease. */
export class HostCommands {
  readonly node: string;
  readonly root: string;
  /** Layers of images that the host lacked, as their registry told a preflight: a pull then knows how far it is. */
  readonly layersToPull = new Map<string, readonly SentLayer[]>();
  readonly #options: HostCommandsOptions;

  constructor(options: HostCommandsOptions) {
    this.#options = options;
    this.node = options.node;
    this.root = options.root;
  }

  /** The dry run that this is part of, or null. */
  get rehearsal(): NodeRehearsal | null {
    return this.#options.rehearsal ?? null;
  }

  async host(signal: AbortSignal = new AbortController().signal): Promise<RemoteHost> {
    const host = await this.#options.connect(signal);
    return this.rehearsal === null ? host : new RehearsedHost(host, this.rehearsal);
  }

  /** Runs a command as data, whatever its exit status. */
  async attempt(command: Command, options: Partial<ExecuteOptions> = {}): Promise<CommandResult> {
    const host = await this.host(options.signal);
    return host.run(command, { deadline: usualDeadline, ...options });
  }

  /** The same for one that must succeed; its stdout. Throws with Docker's own words. */
  async must(command: Command, failure: string, options: Partial<ExecuteOptions> = {}): Promise<string> {
    const result = await this.attempt(command, options);
    if (result.code === 0) return result.stdout;
    throw dockerError({ node: this.node, failure, root: this.root }, result);
  }

  /** Runs a script that changes nothing. */
  look(script: HostScript): Promise<string> {
    return this.#run(script, script.text, { looks: true });
  }

  /** Runs a script that changes something which needs no lease: done again, it changes nothing more. */
  prepare(script: HostScript): Promise<string> {
    return this.#run(script, script.text);
  }

  /** Runs a script that changes something, under a lease: the host refuses it when a newer one exists. */
  async change(lease: Lease, script: HostScript): Promise<string> {
    const guard = this.rehearsal === null ? this.#options.guard(lease) : leaseCheck;
    return this.#run(script, `${guard}\n${script.text}`);
  }

  /** Replaces a file under a lease, durably: its length decides whether it came whole. */
  async write(lease: Lease, file: { path: string; content: string; mode: number; owner: string }): Promise<void> {
    const { path, content, mode, owner } = file;
    const args = [path, Buffer.byteLength(content).toString(), mode.toString(8), owner];
    this.rehearsal?.places.set(path, { facts: `${mode.toString(8)} ${owner} ${sha256(content)}`, content });
    await this.change(lease, { text: writing, args, input: content, failure: `${path} could not be written` });
  }

  #run({ args, failure, input, deadline, signal }: HostScript, text: string, kind: Pick<Command, "looks"> = {}): Promise<string> {
    const given = input === undefined ? {} : { input };
    const command: Command = { argv: ["sh", "-c", text, "gpuctl", ...args], ...given, ...kind };
    return this.must(command, failure, { ...(deadline && { deadline }), ...(signal && { signal }) });
  }
}
