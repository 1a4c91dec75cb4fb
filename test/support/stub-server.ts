import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export interface StubOptions {
  /** Time to answer. */
  delayMs?: number;
  /** Share of requests, evenly spread, that take `slowMs` instead. */
  slowShare?: number;
  slowMs?: number;
  /** Every n-th request has the fault. */
  faultEvery?: number;
  fault?:
    | "http-503"
    | "reset"
    | "hang"
    | "short-body"
    | "zero-vectors"
    | "nan"
    | "wrong-dimension"
    | "missing-item"
    /** Right numbers of the wrong text: only asking again can tell. */
    | "wrong-order"
    | "wrong-index";
  /** Values of `x-gpuctl-device`, in turn. */
  devices?: readonly string[];
  dimension?: number;
  /** Says that one item of each answer came out of a cache: always, or unless the client asked for none of that. */
  cache?: "stubborn" | "polite";
  /** `x-gpuctl-ranked` of every answer, such as 3/8: a substitute that ranks the first documents only. */
  ranked?: string;
}

/** The stub service, running as a process of its own. */
export class StubServer {
  readonly url: string;
  readonly #child: ChildProcess;

  private constructor(url: string, child: ChildProcess) {
    this.url = url;
    this.#child = child;
  }

  static async start(options: StubOptions = {}): Promise<StubServer> {
    const file = fileURLToPath(new URL("stub-server.mjs", import.meta.url));
    const child = spawn(process.execPath, [file, JSON.stringify(options)], { stdio: ["pipe", "pipe", "inherit"] });
    const lines = createInterface({ input: child.stdout });
    const [first] = (await once(lines, "line")) as [string];
    const { port } = JSON.parse(first) as { port: number };
    return new StubServer(`http://127.0.0.1:${String(port)}`, child);
  }

  /** Stops the process from running at all, for a while; its kernel still accepts connections. */
  async freeze(milliseconds: number): Promise<void> {
    this.#child.kill("SIGSTOP");
    try {
      await new Promise((resolve) => setTimeout(resolve, milliseconds));
    } finally {
      this.#child.kill("SIGCONT");
    }
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await exited;
  }
}
