/** A server that speaks the model hub's routes for one repository at one commit, and breaks off when it is told to. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";

export class ModelHub {
  readonly commit = "c".repeat(40);
  readonly id = "someone/tiny";
  /** Bearer token without which nothing is given. */
  token: string | null = null;
  /** Bytes after which downloads of weights break off; null lets them end. */
  cutAfter: number | null = null;
  /** Of every request: its path, and from which byte on. */
  readonly requests: { path: string; range: string | null }[] = [];
  readonly #files: ReadonlyMap<string, Buffer>;
  readonly #server: Server;

  /** @param folder  whose files it serves, without graphs: those are for the fetcher to build */
  constructor(folder: string) {
    const names = readdirSync(folder, { recursive: true, encoding: "utf8" });
    const served = names.filter((name) => statSync(join(folder, name)).isFile() && !name.endsWith(".onnx"));
    this.#files = new Map(served.map((name) => [name, readFileSync(join(folder, name))]));
    this.#server = createServer((request, answer) => {
      this.#answer(request, answer);
    });
  }

  get url(): string {
    const { address, port } = this.#server.address() as AddressInfo;
    return `http://${address}:${port}`;
  }

  /** Bytes of all weights. */
  get weightBytes(): number {
    return [...this.#files].reduce((sum, [name, { length }]) => sum + (isWeights(name) ? length : 0), 0);
  }

  listen(address: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject).listen(0, address, resolve);
    });
  }

  close(): Promise<unknown> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(resolve));
  }

  #answer({ url = "/", headers }: IncomingMessage, answer: ServerResponse): void {
    const path = decodeURIComponent(new URL(url, "http://hub").pathname);
    this.requests.push({ path, range: headers.range ?? null });
    if (this.token !== null && headers.authorization !== `Bearer ${this.token}`) {
      answer.writeHead(401, { "x-error-code": "RepoNotFound" }).end();
    } else if ([this.commit, "main"].some((revision) => path === `/api/models/${this.id}/revision/${revision}`)) {
      const siblings = [...this.#files].map(([rfilename, content]) => listing(rfilename, content));
      answer.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ sha: this.commit, siblings }));
    } else {
      const name = path.split(`/${this.id}/resolve/${this.commit}/`)[1] ?? "";
      const content = this.#files.get(name);
      if (content === undefined) answer.writeHead(404, { "x-error-code": "EntryNotFound" }).end();
      else this.#send(answer, name, content, Number(/^bytes=(\d+)-$/.exec(headers.range ?? "")?.[1] ?? 0));
    }
  }

  #send(answer: ServerResponse, name: string, content: Buffer, from: number): void {
    const range = from === 0 ? {} : { "content-range": `bytes ${from}-${content.length - 1}/${content.length}` };
    answer.writeHead(from === 0 ? 200 : 206, { "content-length": content.length - from, ...range });
    const end = isWeights(name) && this.cutAfter !== null ? Math.max(from, this.cutAfter) : content.length;
    answer.write(content.subarray(from, end), () => {
      if (end < content.length) answer.destroy();
      else answer.end();
    });
  }
}

const isWeights = (name: string): boolean => name.endsWith(".safetensors");

function listing(rfilename: string, content: Buffer): unknown {
  const size = content.length;
  if (isWeights(rfilename)) return { rfilename, size, lfs: { sha256: createHash("sha256").update(content).digest("hex"), size } };
  const blobId = createHash("sha1").update(`blob ${size}\0`).update(content).digest("hex");
  return { rfilename, size, blobId };
}
