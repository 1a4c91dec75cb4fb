import { field } from "../bench/workload.js";
import type { Chunk } from "../domain/chunk.js";
import { Failed } from "../domain/errors.js";
import type { Add, Added, EmbedBody } from "../domain/service-types.js";
import { ms } from "../domain/units.js";
import type { ServiceAddress } from "./service-address.js";
import { callPatiently, type CallTools } from "./service-call.js";

/** Where chunks go. */
interface Destination {
  namespace: string;
  batch: number;
  embedder: ServiceAddress;
  index: ServiceAddress;
}

/** Embeds and stores chunks in batches; while the index writes one batch the embedder works on the next. */
export class AddQueue {
  readonly counts = { added: 0, updated: 0, truncated: 0 };
  readonly #tools: CallTools;
  readonly #to: Destination;
  #waiting: Chunk[] = [];
  #storing: Promise<void> = Promise.resolve();

  constructor(tools: CallTools, to: Destination) {
    this.#tools = tools;
    this.#to = to;
  }

  /** Takes a chunk; returns when there is room for the next. */
  async add(chunk: Chunk): Promise<void> {
    this.#waiting.push(chunk);
    if (this.#waiting.length >= this.#to.batch) await this.#send();
  }

  /** Returns when everything is stored. */
  async finish(): Promise<void> {
    if (this.#waiting.length > 0) await this.#send();
    await this.#storing;
  }

  async #send(): Promise<void> {
    const chunks = this.#waiting;
    this.#waiting = [];
    const vectors = await this.#embed(chunks);
    await this.#storing;
    this.#storing = this.#store(chunks, vectors);
    // The failure is seen where the promise is awaited; until then it must not count as unhandled.
    this.#storing.catch(() => undefined);
  }

  async #embed(chunks: readonly Chunk[]): Promise<readonly (readonly number[])[]> {
    const body = { inputs: chunks.map(({ text }) => text), truncate: true, prompt_name: "passage" } satisfies EmbedBody;
    const call = { service: "embedder", address: this.#to.embedder, path: "/embed", body, timeout: ms(120_000) } as const;
    const answer = await callPatiently(this.#tools, call);
    this.counts.truncated += Number(answer.headers["x-gpuctl-truncated"] ?? 0) || 0;
    if (Array.isArray(answer.body) && answer.body.length === chunks.length) return answer.body as number[][];
    throw new Failed("the embedder's answer cannot be used", {
      because: `it has no ${String(chunks.length)} vectors for ${String(chunks.length)} texts`,
      nextSteps: ["gpuctl health", "gpuctl logs embedder"],
    });
  }

  async #store(chunks: readonly Chunk[], vectors: readonly (readonly number[])[]): Promise<void> {
    const items = chunks.map(({ id, text, metadata }, n) => ({ id, text, metadata, vectorBase64: base64(vectors[n] ?? []) }));
    const body = { namespace: this.#to.namespace, upsert: true, items } satisfies Add;
    const call = {
      service: "index",
      address: this.#to.index,
      path: "/api/v1/vector-store/add",
      body,
      timeout: ms(60_000),
    } as const;
    const answer = await callPatiently(this.#tools, call);
    this.counts.added += Number(field(answer.body, "added" satisfies keyof Added) ?? 0);
    this.counts.updated += Number(field(answer.body, "updated" satisfies keyof Added) ?? 0);
  }
}

/** Little-endian float32, a third of the bytes of JSON numbers. */
function base64(vector: readonly number[]): string {
  const bytes = Buffer.alloc(vector.length * 4);
  vector.forEach((value, n) => bytes.writeFloatLE(value, n * 4));
  return bytes.toString("base64");
}
