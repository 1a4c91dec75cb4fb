/** A package index of one's own, as a mirror in a company is one: PEP 503 over HTTPS, with a certificate that nobody else knows. */
import { createReadStream, mkdirSync, readdirSync, readFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { must } from "./shell.js";

/** By a name: pip cannot check the certificate of an address. Whoever asks has to be told whose name it is. */
const name = "packages.internal";

export class PackageIndex {
  /** Path of every request that it has answered with something. */
  readonly given: string[] = [];
  readonly #wheels: string;
  readonly #server: Server;

  private constructor(wheels: string, server: Server) {
    this.#wheels = wheels;
    this.#server = server;
    server.on("request", (request: IncomingMessage, answer: ServerResponse) => {
      this.#answer(request.url ?? "/", answer);
    });
  }

  /** @param wheels  folder with the files that it has @param keys  folder for its key and `server.crt`, which clients have to be given */
  static async start(wheels: string, keys: string, address: string): Promise<PackageIndex> {
    mkdirSync(keys, { recursive: true });
    const [key, certificate] = [join(keys, "server.key"), join(keys, "server.crt")];
    const kind = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    const names = ["-subj", "/CN=packages", "-addext", `subjectAltName=DNS:${name}`];
    await must("openssl", [...kind, ...names, "-keyout", key, "-out", certificate]);
    const server = createServer({ key: readFileSync(key), cert: readFileSync(certificate) });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject).listen(0, address, resolve);
    });
    return new PackageIndex(wheels, server);
  }

  /** As pip takes it. */
  get url(): string {
    return `https://${name}:${(this.#server.address() as AddressInfo).port}/simple/`;
  }

  /** For `docker build`: where the name leads. */
  get host(): string {
    return `${name}:${(this.#server.address() as AddressInfo).address}`;
  }

  close(): Promise<unknown> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(resolve));
  }

  /** `/simple/NAME/` lists the files of a package, `/files/NAME` is one of them. */
  #answer(path: string, answer: ServerResponse): void {
    const [, kind = "", wanted = ""] = path.split("/");
    const files = readdirSync(this.#wheels).filter((file) => (kind === "files" ? file : packageOf(file)) === wanted);
    if (!["simple", "files"].includes(kind) || files.length === 0) {
      answer.writeHead(404).end();
      return;
    }
    this.given.push(path);
    if (kind === "files") {
      answer.writeHead(200, { "content-type": "application/octet-stream" });
      createReadStream(join(this.#wheels, wanted)).pipe(answer);
    } else {
      const links = files.map((file) => `<a href="/files/${file}">${file}</a>`);
      answer.writeHead(200, { "content-type": "text/html" }).end(`<!DOCTYPE html><html><body>${links.join("\n")}</body></html>`);
    }
  }
}

/** The normalised name of the package that a wheel is of. */
const packageOf = (wheel: string): string => (wheel.split("-")[0] ?? "").replace(/[-_.]+/g, "-").toLowerCase();
