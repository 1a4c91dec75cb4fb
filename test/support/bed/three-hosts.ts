import { expect } from "vitest";
import type { JsonDocument, Ran, Running } from "../sandbox.js";
import { Bed } from "./bed.js";
import { caddyImage, serviceImage } from "./images.js";
import { askEmbedder, pinned, Stack, SteadyClient } from "./stack.js";

interface HostRow {
  node: string;
  before: string | null;
  now: string | null;
  state: string;
}
interface Status {
  release: { id: string };
  healthy: boolean;
  problems: string[];
  drift: string[];
}

export const names = ["one", "two", "three"] as const;
const port = 18301;

/** Another value is another release. */
export const embedder = (entries: number, nodes = ""): string =>
  `embedder: { model: all-MiniLM-L6-v2, port: ${port}, options: { cacheEntries: ${entries} }${nodes} }`;

/** Three hosts that run the real embedder, and a project file for them; nothing is deployed yet. */
export class ThreeHosts {
  readonly bed: Bed;
  readonly stack: Stack;
  readonly images: { services: string; proxy: string };

  private constructor(bed: Bed, stack: Stack, images: { services: string; proxy: string }) {
    this.bed = bed;
    this.stack = stack;
    this.images = images;
  }

  static async start(): Promise<ThreeHosts> {
    const [services, caddy] = [await serviceImage(), await caddyImage()];
    const bed = await Bed.start(names.map((name) => ({ name })));
    const one = bed.host("one");
    const images = { services: await pinned(bed, one, services), proxy: await pinned(bed, one, caddy) };
    return new ThreeHosts(bed, await Stack.create(bed, { hosts: names, services: [embedder(1)], images }), images);
  }

  async stop(): Promise<void> {
    await this.stack.close();
    await this.bed.stop();
  }

  ask(host: string): Promise<Response> {
    return askEmbedder(this.bed.host(host).address, port);
  }

  /** Expects that every one of these hosts answered every request while something was done. */
  async under<T>(hosts: readonly string[], work: () => Promise<T>): Promise<T> {
    const clients = hosts.map((host) => ({ host, client: new SteadyClient(() => this.ask(host), 200) }));
    try {
      return await work();
    } finally {
      await Promise.all(clients.map(({ client }) => client.stop()));
      expect(clients.map(({ host, client }) => ({ host, lapses: client.lapses }))).toEqual(
        hosts.map((host) => ({ host, lapses: {} })),
      );
      for (const { client } of clients) expect(client.answers).toBeGreaterThan(3);
    }
  }

  async statusOf(): Promise<Status> {
    const ran = await this.stack.run(["status", "-e", "prod", "--json"]);
    return documentOf(ran).result as Status;
  }

  /** Begins a deploy and waits until it has come so far. */
  async deployUntil(pattern: RegExp, args: readonly string[] = []): Promise<Running> {
    const running = this.stack.start(["deploy", "-e", "prod", "--json", ...args]);
    await running.saysOnStderr(pattern, 300_000);
    return running;
  }

  /** The gate of every instance on a host, as its file says. */
  async gatesOf(host: string): Promise<Record<string, string>> {
    const text = await this.bed.host(host).must(["sh", "-c", "cd /var/lib/gpuctl/shop/prod/gates && grep -H . *-[ab]"]);
    return Object.fromEntries(
      text
        .trim()
        .split("\n")
        .map((line) => line.split(":") as [string, string]),
    );
  }

  async containerOf(host: string, release: string): Promise<string> {
    const filter = `label=dev.gpuctl.release=${release}`;
    return (await this.bed.host(host).must(["docker", "ps", "--quiet", "--filter", filter])).trim();
  }
}

export const documentOf = (ran: Ran): JsonDocument => JSON.parse(ran.stdout) as JsonDocument;

/** The table of hosts in what a command said, whether it went well or not. */
export const rowsOf = (ran: Ran): readonly HostRow[] => {
  interface Hosts {
    hosts: readonly HostRow[];
  }
  const { result, error } = documentOf(ran) as { result?: unknown; error?: { data?: unknown } };
  return ((result ?? error?.data) as Hosts).hosts;
};

export const expectCode = (ran: Ran, code: number): void => {
  expect(ran.code, `${ran.stdout}\n${ran.stderr}`).toBe(code);
};

export const statesOf = (ran: Ran): Record<string, string> =>
  Object.fromEntries(rowsOf(ran).map(({ node, state }) => [node, state]));

export const all = (state: string): Record<string, string> => Object.fromEntries(names.map((name) => [name, state]));
