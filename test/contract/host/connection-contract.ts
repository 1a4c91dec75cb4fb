import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage } from "node:http";
import { type AddressInfo } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Failed, TargetUnreachable } from "../../../cli/src/domain/errors.js";
import { ms } from "../../../cli/src/domain/units.js";
import { until } from "../../support/until.js";
import type { HostWorld } from "./host-world.js";

const patient = { deadline: ms(30_000) };

export function describeConnection(makeWorld: () => Promise<HostWorld>): void {
  let world: HostWorld;
  beforeEach(async () => {
    world = await makeWorld();
  });
  afterEach(async () => {
    await world.dispose();
  });

  describe("a tunnel", () => {
    it.each(["port", "socket"] as const)("leads to a %s of the host, for several at once, until it is closed", async (kind) => {
      const path = join(world.folder, "service.sock");
      const server = createServer((request, response) => {
        void bodyOf(request).then((body) => response.end(`${request.url ?? ""} ${body.length}`));
      });
      server.listen(kind === "port" ? { port: 0, host: "127.0.0.1" } : { path });
      await once(server, "listening");
      try {
        const to = kind === "port" ? { port: (server.address() as AddressInfo).port } : { socket: path };
        const tunnel = await world.host.tunnel(to, patient);
        const ask = (number: number): Promise<string> =>
          fetch(`${tunnel.base}/${number}`, { method: "POST", body: "x".repeat(500_000), headers: { connection: "close" } }).then(
            (answer) => answer.text(),
          );
        const answers = await Promise.all([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12].map(ask));
        expect(answers).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12].map((number) => `/${number} 500000`));
        await tunnel.close();
        await expect(ask(13)).rejects.toThrow();
      } finally {
        server.closeAllConnections();
        server.close();
      }
    });

    it("to where nobody listens breaks the connection off", async () => {
      const tunnel = await world.host.tunnel({ socket: join(world.folder, "nobody.sock") }, patient);
      await expect(fetch(tunnel.base, { signal: AbortSignal.timeout(10_000) })).rejects.not.toThrow(/timeout/);
      await tunnel.close();
    });
  });

  it("that was closed is connected again when it is needed", async () => {
    await world.host.close();
    expect(await world.host.run({ argv: ["echo", "again"] }, patient)).toMatchObject({ stdout: "again\n" });
  });
}

/** What happens when the network between here and the host fails. */
export function describeLine(makeWorld: () => Promise<HostWorld>): void {
  let world: HostWorld;
  beforeEach(async () => {
    world = await makeWorld();
  });
  afterEach(async () => {
    await world.dispose();
  });
  const line = (): NonNullable<HostWorld["line"]> => {
    if (world.line === null) throw new Error("this world has no line");
    return world.line;
  };

  describe("a connection", () => {
    it("that is broken fails what runs with what to type next, and the next command has a new one", async () => {
      const witness = join(world.folder, "running");
      const running = world.host.run({ argv: ["sh", "-c", `echo begun; touch ${witness}; sleep 3`] }, patient);
      const failure = running.then(
        () => null,
        (error: unknown) => error,
      );
      await until(() => existsSync(witness), "it runs");
      line().cut();
      const error = (await failure) as TargetUnreachable;
      expect(error).toBeInstanceOf(TargetUnreachable);
      expect(error.message).toBe("the connection to box was lost while sh ran");
      expect(error.because).toMatch(/\S/);
      expect(error.nextSteps[0]).toBe("gpuctl status");
      expect(await world.host.run({ argv: ["echo", "back"] }, patient)).toMatchObject({ code: 0, stdout: "back\n" });
    });

    it("that is broken in the middle of output, or of input, is no success", async () => {
      line().cutAfter("down", 3_000_000);
      const output = world.host.run({ argv: ["sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' x"] }, patient);
      await expect(output).rejects.toThrow(TargetUnreachable);
      line().cutAfter("up", 3_000_000);
      await expect(world.host.run({ argv: ["wc", "-c"], input: "x".repeat(20_000_000) }, patient)).rejects.toThrow(
        TargetUnreachable,
      );
    });

    it("that is broken while a file is written leaves the old file and nothing else", async () => {
      const file = join(world.folder, "kept");
      await world.host.writeFile(file, "old", 0o600, patient);
      line().cutAfter("up", 2_000_000);
      await expect(world.host.writeFile(file, "x".repeat(10_000_000), 0o600, patient)).rejects.toThrow(TargetUnreachable);
      await until(() => readdirSync(world.folder).join() === "kept", "the temporary file was removed");
      expect(Buffer.from((await world.host.readFile(file, patient))!).toString()).toBe("old");
    });

    it("that is broken while a file is sent keeps what has arrived, and the next attempt goes on from there", async () => {
      const bytes = randomBytes(20_000_000);
      const local = join(world.folder, "local");
      writeFileSync(local, bytes);
      const sha256 = createHash("sha256").update(bytes).digest("hex");
      const file = { local, remote: join(world.folder, "remote"), mode: 0o600, sha256 };
      line().cutAfter("up", 14_000_000);
      await expect(world.host.sendFile(file, patient)).rejects.toThrow(TargetUnreachable);
      expect(existsSync(file.remote)).toBe(false);
      const counts: number[] = [];
      await world.host.sendFile(file, { ...patient, onBytes: (done) => counts.push(done) });
      expect(counts[0]).toBeGreaterThan(4_000_000);
      expect(readFileSync(file.remote).equals(bytes)).toBe(true);
    });

    it("on which nothing comes back does not hold a command beyond its deadline", async () => {
      expect(await world.host.run({ argv: ["true"] }, patient)).toMatchObject({ code: 0 });
      line().freeze();
      const started = performance.now();
      await expect(world.host.run({ argv: ["true"] }, { deadline: ms(800) })).rejects.toThrow(Failed);
      expect(performance.now() - started).toBeLessThan(8000);
      line().thaw();
    });
  });
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
