/** The embedder with MiniLM on one host of a bed, deployed by the real CLI, and clients that count what they get meanwhile. */
import { Bed } from "./bed.js";
import type { BedHost, HostSpec } from "./host.js";
import { caddyImage, serviceImage } from "./images.js";
import { slowRequest, type SlowRequest } from "./slow-request.js";
import { askEmbedder, leastOfFifty, pinned, Stack, SteadyClient, type Rate } from "./stack.js";
import type { StatusResult } from "../serving.js";

export interface ServedOptions extends Omit<HostSpec, "name"> {
  /** Name of the services' image in the registry; the real one for CPUs by default. */
  image?: () => Promise<string>;
}

const port = 18_101;

export class Served {
  readonly bed: Bed;
  readonly stack: Stack;
  readonly images: { services: string; proxy: string };
  #changes = 10;

  private constructor(bed: Bed, stack: Stack, images: { services: string; proxy: string }) {
    this.bed = bed;
    this.stack = stack;
    this.images = images;
  }

  static async start({ image = serviceImage, ...host }: ServedOptions = {}): Promise<Served> {
    const [services, caddy] = [await image(), await caddyImage()];
    const bed = await Bed.start([{ name: "one", ...host }]);
    const images = {
      services: await pinned(bed, bed.host("one"), services),
      proxy: await pinned(bed, bed.host("one"), caddy),
    };
    const stack = await Stack.create(bed, { hosts: ["one"], services: [embedder("")], images });
    return new Served(bed, stack, images);
  }

  get host(): BedHost {
    return this.bed.host("one");
  }

  /** Gives the embedder further settings, and one that no release had before: what is deployed next is another release. */
  change(settings = ""): void {
    this.stack.write({ services: [embedder(`, options: { cacheEntries: ${String(this.#changes++)} }${settings}`)] });
  }

  /** One request to the public address, as a client sends it. */
  ask(): Promise<Response> {
    return askEmbedder(this.host.address, port);
  }

  /** One whose body ends when a test wants. */
  askSlowly(): SlowRequest {
    return slowRequest(`http://${this.host.address}:${port}/embed`, { inputs: "a text that comes slowly" });
  }

  /** Whether the public address answers. */
  async answers(): Promise<boolean> {
    return (await this.ask().catch(() => null))?.status === 200;
  }

  /**
   * Keeps asking, up to 50 times a second, while something happens; whatever was not a 200, by what it was, and a 200 that came late.
   * Throws where too little was answered to say anything (`leastOfFifty`).
   */
  async failuresDuring(work: () => Promise<void>): Promise<Record<string, number>> {
    const client = new SteadyClient(() => this.ask(), 20);
    let rate: Rate;
    try {
      await work();
    } finally {
      rate = await client.stop();
    }
    if (rate.perSecond < leastOfFifty)
      throw new Error(`only ${rate.perSecond.toFixed(1)} answers a second; the others: ${JSON.stringify(client.failures)}`);
    return client.lapses;
  }

  /** What `gpuctl status` says, also where something is wrong. */
  async status(): Promise<StatusResult & { instances: readonly { id: string; traffic: string }[]; drift: readonly string[] }> {
    const ran = await this.stack.run(["status", "-e", "prod", "--json"]);
    const { result } = JSON.parse(ran.stdout) as { result?: Awaited<ReturnType<Served["status"]>> };
    if (result === undefined) throw new Error(`status failed: ${ran.stdout}${ran.stderr}`);
    return result;
  }

  /** Instances whose gate is open. */
  async open(): Promise<readonly string[]> {
    return (await this.status()).instances.filter(({ traffic }) => traffic === "open").map(({ id }) => id);
  }

  async stop(): Promise<void> {
    await this.stack.close();
    await this.bed.stop();
  }
}

const embedder = (more: string): string => `embedder: { model: all-MiniLM-L6-v2, device: cpu, port: ${port}${more} }`;
