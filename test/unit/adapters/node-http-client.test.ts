import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { NodeHttpClient } from "../../../cli/src/adapters/http/node-http-client.js";
import { Failed, TargetUnreachable } from "../../../cli/src/domain/errors.js";
import { ms } from "../../../cli/src/domain/units.js";

const client = new NodeHttpClient();
const get = { method: "GET", path: "/health", timeout: ms(5000) } as const;
let server: Server | undefined;

afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

async function serve(listener: RequestListener, at: string | number = 0): Promise<string> {
  server = createServer(listener);
  if (typeof at === "string") server.listen(at);
  else server.listen(at, "127.0.0.1");
  await once(server, "listening");
  return typeof at === "string" ? `unix:${at}` : `http://127.0.0.1:${(server.address() as AddressInfo).port.toString()}`;
}

describe("an answer", () => {
  it("is parsed when it says that it is JSON, and text otherwise", async () => {
    const base = await serve((request, response) => {
      response.setHeader("content-type", request.url === "/json" ? "application/json; charset=utf-8" : "text/plain");
      response.end('{"ok":true}');
    });
    expect((await client.request(base, { ...get, path: "/json" })).body).toEqual({ ok: true });
    expect((await client.request(base, { ...get, path: "/text" })).body).toBe('{"ok":true}');
  });

  it("comes with its status and headers, whatever the status", async () => {
    const base = await serve((_request, response) => response.writeHead(429, { "Retry-After": "2" }).end());
    expect(await client.request(base, get)).toMatchObject({ status: 429, headers: { "retry-after": "2" } });
  });

  it("to a POST is about the body that was sent, over a unix socket as well", async () => {
    const scratch = mkdtempSync(join(tmpdir(), "gpuctl-http-"));
    try {
      const base = await serve(
        (request, response) => {
          response.setHeader("content-type", "application/json");
          request.pipe(response);
        },
        join(scratch, "s"),
      );
      const body = { texts: ["grüße", "\u{1F600}"] };
      expect((await client.request(base, { method: "POST", path: "/echo", body, timeout: ms(5000) })).body).toEqual(body);
    } finally {
      rmSync(scratch, { recursive: true });
    }
  });

  it("that is broken JSON is refused", async () => {
    const base = await serve((_request, response) => response.writeHead(200, { "content-type": "application/json" }).end("{"));
    await expect(client.request(base, get)).rejects.toThrow(Failed);
  });
});

describe("no answer", () => {
  it("within the time is an unreachable target that says so", async () => {
    const base = await serve(() => undefined);
    await expect(client.request(base, { ...get, timeout: ms(50) })).rejects.toMatchObject({
      because: "nothing came within 50 ms",
    });
  });

  it("to its end within the time is one too", async () => {
    const base = await serve((_request, response) => response.write("begun"));
    await expect(client.request(base, { ...get, timeout: ms(200) })).rejects.toThrow(TargetUnreachable);
  });

  it("because nothing listens says that nothing listens", async () => {
    await expect(client.request("unix:/nowhere/at/all", get)).rejects.toMatchObject({ because: "nothing listens there" });
  });

  it("because the caller gave up carries the caller's reason", async () => {
    const abort = new AbortController();
    const base = await serve(() => {
      abort.abort(new Failed("enough"));
    });
    await expect(client.request(base, get, abort.signal)).rejects.toThrow("enough");
  });
});
