import { once } from "node:events";
import { createServer, type AddressInfo, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Tunnel } from "../../ports.js";

/**
 * Listens on a free port of this machine's loopback and opens one way to the other end for each connection; a way that cannot be
 * opened ends the connection, as a port on which nobody listens would.
 */
export async function openTunnel(open: (signal: AbortSignal) => Promise<Duplex>, signal: AbortSignal): Promise<Tunnel> {
  const sockets = new Set<Socket>();
  const closing = new AbortController();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    void join(socket, open, closing.signal);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening", { signal });
  return {
    base: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      closing.abort(new Error("the tunnel was closed"));
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function join(socket: Socket, open: (signal: AbortSignal) => Promise<Duplex>, signal: AbortSignal): Promise<void> {
  try {
    const far = await open(signal);
    far.on("error", () => socket.destroy());
    await Promise.all([pipeline(socket, far, { signal }), pipeline(far, socket, { signal })]);
  } catch {
    socket.destroy();
  }
}
