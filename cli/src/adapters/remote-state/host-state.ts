import { Failed, type GpuctlError, PreflightRefused, TargetUnreachable } from "../../domain/errors.js";
import { ms, type Milliseconds } from "../../domain/units.js";
import type { CommandResult, RemoteHost } from "../../ports.js";
import { guardScript, type Fence } from "./fence.js";
import { statuses } from "./script-parts.js";

/** Each script is one short look or one small file. */
const usualDeadline = ms(30_000);

export interface HostStateOptions {
  /** The node's name in gpuctl.yaml. */
  name: string;
  /** Directory of the environment on the host: `HostLayout.root`. */
  root: string;
  /** As root, whose the state is. */
  connect(signal: AbortSignal): Promise<RemoteHost>;
  deadline?: Milliseconds;
  /** Ends everything under way, also what undoes a deploy: not the signal of Ctrl-C. */
  signal?: AbortSignal;
  /** The host's /proc; another one only in tests. */
  proc?: string;
}

/** One script, as `sh -c SCRIPT gpuctl ROOT ARGS…` with the input on stdin. */
export interface StateScript {
  text: string;
  args: readonly string[];
  input?: string;
  /** For messages: `the release record could not be written`. */
  failure: string;
  /** What an exit status of this script means. */
  refusals?: Readonly<Record<number, () => GpuctlError>>;
  signal?: AbortSignal;
}

/** The state of one environment on one host: how scripts are run there, and which lease this process holds on it. */
export class HostState {
  readonly name: string;
  readonly root: string;
  readonly proc: string;
  readonly #options: HostStateOptions;
  /** Set by the lease store; every write is refused without it. */
  fence: Fence | null = null;

  constructor(options: HostStateOptions) {
    this.#options = options;
    this.name = options.name;
    this.root = options.root;
    this.proc = options.proc ?? "/proc";
  }

  /**
   * Runs a script and gives its stdout. Every script may be repeated, so a connection that is lost in the middle is made anew and
   * the script is run again, once.
   */
  async run(script: StateScript): Promise<string> {
    const { deadline = usualDeadline, signal: always } = this.#options;
    const limit = AbortSignal.timeout(deadline * 2);
    const signal = AbortSignal.any([limit, ...[always, script.signal].filter((each) => each !== undefined)]);
    const attempt = (): Promise<CommandResult> => this.#once(script, deadline, signal);
    const result = await attempt()
      .catch((error: unknown) => {
        if (error instanceof LostMidway && !signal.aborted) return attempt();
        throw error;
      })
      .catch((error: unknown) => {
        if (limit.aborted && error === limit.reason) throw this.#tooLate(script, deadline * 2);
        throw error instanceof LostMidway ? error.cause : error;
      });
    if (result.code === 0) return result.stdout;
    throw script.refusals?.[result.code ?? 0]?.() ?? this.#explain(script, result);
  }

  /** The lease that a write is made under. Throws Failed without one: two operators could write. */
  heldFence(): Fence {
    if (this.fence !== null) return this.fence;
    throw new Failed(`nothing can be written on ${this.name} without the lease`, { nextSteps: ["gpuctl lock status"] });
  }

  /** Lines of sh that end a script unless this process still holds the lease there; see `guardScript`. */
  guard(): string {
    return guardScript(this, this.heldFence());
  }

  async #once(script: StateScript, deadline: Milliseconds, signal: AbortSignal): Promise<CommandResult> {
    signal.throwIfAborted();
    const host = await this.#options.connect(signal);
    const input = script.input === undefined ? {} : { input: script.input };
    const command = { argv: ["sh", "-c", script.text, "gpuctl", this.root, ...script.args] as const, ...input };
    try {
      return await host.run(command, { deadline, signal });
    } catch (error) {
      throw error instanceof TargetUnreachable ? new LostMidway(error) : error;
    }
  }

  #tooLate({ failure }: StateScript, after: number): TargetUnreachable {
    const because = `it did not answer within ${after / 1000} s`;
    return new TargetUnreachable(`${failure} on ${this.name}`, {
      because,
      nextSteps: ["gpuctl status"],
      data: { node: this.name },
    });
  }

  #explain(script: StateScript, { code, signal, stderr }: CommandResult): GpuctlError {
    const said = stderr.split("\n").filter((line) => line.trim() !== "");
    const because = said.slice(-3).join("; ") || (signal === null ? `exit status ${code ?? "unknown"}` : `ended by ${signal}`);
    const what = `${script.failure} on ${this.name}`;
    const data = { node: this.name, directory: this.root };
    switch (code) {
      case statuses.fenced:
        return new Failed(`the lease on ${this.name} was lost, and nothing was written`, {
          because,
          nextSteps: ["gpuctl status", "gpuctl audit", "then run the command again"],
          data,
        });
      case statuses.unsafe:
        return new PreflightRefused(what, {
          because: `${because}; whoever can write there decides what runs`,
          nextSteps: [
            `ls -la ${this.root}   # on ${this.name}`,
            "give it back to root with chown and chmod go-w, then check what it holds",
          ],
          data,
        });
      case statuses.cut:
      case statuses.busy:
        return new Failed(what, { because, nextSteps: ["run the same command again"], data });
      default:
        return new Failed(what, {
          because: because,
          nextSteps: nextStepsFor(because, this.root, this.name),
          data: { ...data, code },
        });
    }
  }
}

/** The host was reached, and the answer never came. */
class LostMidway extends Error {
  override readonly cause: TargetUnreachable;
  constructor(cause: TargetUnreachable) {
    super(cause.message);
    this.cause = cause;
  }
}

function nextStepsFor(because: string, root: string, host: string): readonly string[] {
  if (because.includes("No space left on device") || because.includes("quota exceeded"))
    return [`df -h ${root}   # on ${host}`, "gpuctl prune", "then run the command again: what was there before is whole"];
  if (because.includes("Read-only file system")) return [`findmnt -T ${root}   # on ${host}`];
  if (/sudo|Permission denied/.test(because))
    return [`log in as root, or allow sudo without a password on ${host}`, "gpuctl doctor"];
  return [`ls -la ${root}   # on ${host}`, "gpuctl doctor"];
}
