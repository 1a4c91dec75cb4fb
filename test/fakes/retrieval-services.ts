import { TargetUnreachable } from "../../cli/src/domain/errors.js";
import type { HttpClient, HttpRequest, HttpResponse } from "../../cli/src/ports.js";

interface Item {
  id: string;
  text: string;
  metadata: Record<string, unknown>;
}

/** An embedder, a reranker and an index in memory, reached by `http://embedder`, `http://reranker` and `http://index`. */
export class RetrievalServices implements HttpClient {
  readonly items = new Map<string, Item>();
  readonly embedded: string[] = [];
  readonly calls: string[] = [];
  /** Answers given before the services do their work, one a request. */
  interruptions: { path: string; status: number; headers?: Record<string, string>; body?: unknown }[] = [];
  down: string[] = [];

  async request(base: string, request: HttpRequest): Promise<HttpResponse> {
    const service = new URL(base).hostname;
    const path = request.path.replace("/api/v1/vector-store", "");
    this.calls.push(`${service} ${path}`);
    if (this.down.includes(service)) throw new TargetUnreachable(`${base} got no answer`, { because: "nothing listens there" });
    const at = this.interruptions.findIndex((interruption) => interruption.path === path);
    const [interruption] = at === -1 ? [] : this.interruptions.splice(at, 1);
    if (interruption !== undefined)
      return {
        status: interruption.status,
        headers: interruption.headers ?? {},
        body: interruption.body ?? { message: "not now." },
      };
    const body = this.#answer(path, request.body as never);
    return Promise.resolve({ status: 200, headers: { "x-gpuctl-device": "cpu", "x-gpuctl-truncated": "0" }, body });
  }

  #answer(path: string, body: Record<string, never>): unknown {
    if (path === "/embed") return this.#embed(body["inputs"] as unknown as string[]);
    if (path === "/add") return this.#add(body["items"] as unknown as Item[]);
    if (path === "/delete") return { deleted: (body["ids"] as unknown as string[]).filter((id) => this.items.delete(id)).length };
    if (path === "/items/lookup") return this.#lookup((body["filter"] as unknown as { source: string }).source);
    if (path === "/items/values") return this.#values(body["key"] as unknown as string, body["prefix"] as unknown as string);
    if (path === "/stats") return { namespaces: this.items.size > 0 ? { default: this.items.size } : {} };
    if (path === "/search") return { results: [this.#search(body["k"] as unknown as number)] };
    if (path === "/rerank") return { results: this.#rerank(body["documents"] as unknown as unknown[]) };
    throw new Error(`no such path: ${path}`);
  }

  #embed(inputs: string[]): number[][] {
    this.embedded.push(...inputs);
    return inputs.map((text) => [text.length, 1]);
  }

  #add(items: Item[]): { added: number; updated: number } {
    const updated = items.filter(({ id }) => this.items.has(id)).length;
    for (const item of items) this.items.set(item.id, item);
    return { added: items.length - updated, updated };
  }

  #lookup(source: string): { items: Record<string, { metadata: unknown }> } {
    const found = [...this.items.values()].filter(({ metadata }) => metadata["source"] === source);
    return { items: Object.fromEntries(found.map(({ id, metadata }) => [id, { metadata }])) };
  }

  #values(key: string, prefix: string): { values: unknown[] } {
    const values = [...this.items.values()].map(({ metadata }) => metadata[key]);
    return { values: [...new Set(values)].filter((value) => typeof value === "string" && value.startsWith(prefix)) };
  }

  #search(k: number): unknown[] {
    return [...this.items.values()].slice(0, k).map(({ id, text, metadata }, n) => ({ id, text, metadata, score: 0.9 - n / 10 }));
  }

  /** The last of the candidates is the best. */
  #rerank(documents: unknown[]): unknown[] {
    return documents.map((_, index) => ({ index, relevance_score: (index + 1) / documents.length })).reverse();
  }
}
