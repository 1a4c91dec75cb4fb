/** The only way out of a bed: an HTTP proxy on this machine, for package indexes during image builds. Hosts have no route out. */
import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { connect, type Socket } from "node:net";
import type { Duplex } from "node:stream";

const allowedPorts = [80, 443];

/** Listens on one address of this machine, which only the bed reaches. */
export class OutboundProxy {
  readonly #server: Server;
  readonly #sockets = new Set<Duplex>();
  #url = "";

  constructor() {
    this.#server = createServer((incoming, answer) => {
      this.#forward(incoming, answer);
    });
    this.#server.on("connect", (incoming: IncomingMessage, client: Duplex, head: Buffer) => {
      this.#tunnel(incoming, client, head);
    });
    this.#server.on("connection", (socket: Socket) => {
      this.#keep(socket);
    });
  }

  /** As clients take it: `http://198.18.7.1:40123`. */
  get url(): string {
    return this.#url;
  }

  async listen(host: string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject).listen(0, host, resolve);
    });
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("the outbound proxy got no port");
    this.#url = `http://${host}:${address.port}`;
  }

  async close(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  /** `CONNECT host:443`: bytes both ways, whatever they are. */
  #tunnel(incoming: IncomingMessage, client: Duplex, head: Buffer): void {
    const target = URL.parse(`http://${incoming.url ?? ""}`);
    const port = Number(target?.port || "80");
    if (target === null || !allowedPorts.includes(port)) {
      client.end("HTTP/1.1 403 Forbidden\r\n\r\n");
      return;
    }
    const server = connect(port, target.hostname, () => {
      client.write("HTTP/1.1 200 Connection established\r\n\r\n");
      server.write(head);
      server.pipe(client).pipe(server);
    });
    this.#keep(server);
    server.on("error", () => client.destroy());
    client.on("error", () => server.destroy()).on("close", () => server.destroy());
  }

  /** `GET http://host/path`. */
  #forward(incoming: IncomingMessage, answer: ServerResponse): void {
    const target = URL.parse(incoming.url ?? "");
    if (target?.protocol !== "http:" || !allowedPorts.includes(Number(target.port || "80"))) {
      answer.writeHead(403).end();
      return;
    }
    const onward = request(target, { method: incoming.method, headers: incoming.headers }, (reply) => {
      answer.writeHead(reply.statusCode ?? 502, reply.headers);
      reply.pipe(answer);
    });
    onward.on("error", () => {
      if (answer.headersSent) answer.destroy();
      else answer.writeHead(502).end();
    });
    incoming.pipe(onward);
  }

  #keep(socket: Duplex): void {
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket)).on("error", () => undefined);
  }
}
