import { createServer } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import {
  collides,
  listeningPorts,
  nameProcess,
  parseListening,
  socketOwners,
} from "../../../../cli/src/adapters/targets/process/listening-ports.js";
import { portFindings } from "../../../../cli/src/adapters/targets/process/port-findings.js";

const header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
const row = (address: string, state: string, inode: number): string =>
  `   0: ${address} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000  1000        0 ${inode.toString()} 1 0 100 0 0 10 0\n`;

describe("the table of sockets", () => {
  it("is read with its addresses in the machine's byte order, listening ones only", () => {
    const table = header + row("0100007F:1F41", "0A", 11) + row("00000000:0050", "0A", 12) + row("0100007F:A000", "01", 13);
    expect(parseListening(table)).toEqual([
      { address: "127.0.0.1", port: 8001, inode: "11" },
      { address: "0.0.0.0", port: 80, inode: "12" },
    ]);
  });

  it("is read for IPv6", () => {
    const table =
      header +
      row("00000000000000000000000000000000:1F41", "0A", 1) +
      row("00000000000000000000000001000000:1F42", "0A", 2) +
      row("0000000000000000FFFF00000100007F:1F43", "0A", 3) +
      row("B80D0120000000000000000001000000:1F44", "0A", 4);
    expect(parseListening(table).map((each) => each.address)).toEqual(["::", "::1", "127.0.0.1", "2001:db8:0:0:0:0:0:1"]);
  });

  it("is read where there is none", () => {
    expect(parseListening("")).toEqual([]);
  });
});

describe("two addresses", () => {
  it.each([
    ["127.0.0.1", "127.0.0.1", true],
    ["127.0.0.1", "0.0.0.0", true],
    ["0.0.0.0", "127.0.0.1", true],
    ["127.0.0.1", "::", true],
    ["localhost", "127.0.0.1", true],
    ["127.0.0.1", "127.0.0.2", false],
    ["127.0.0.1", "::1", false],
  ])("%s and %s collide: %s", (host, address, expected) => {
    expect(collides(host, address)).toBe(expected);
  });
});

describe("a wanted port", () => {
  const servers: ReturnType<typeof createServer>[] = [];
  afterEach(() => {
    for (const server of servers.splice(0)) server.close();
  });
  const listen = (): Promise<number> =>
    new Promise((resolve) => {
      const server = createServer();
      servers.push(server);
      server.listen(0, "127.0.0.1", () => {
        const address = server.address();
        resolve(typeof address === "object" && address !== null ? address.port : 0);
      });
    });
  const look = async (port: number, ours: readonly number[] = [], host = "127.0.0.1") =>
    (await portFindings([{ service: "embedder", host, port }], new Set(ours)))[0];

  it("that a stranger holds is a blocker that names the stranger", async () => {
    const finding = await look(await listen());
    expect(finding).toMatchObject({ level: "blocker", code: "port-taken", because: `${nameProcess(process.pid)} listens there` });
    expect(finding?.nextSteps?.join()).toContain("gpuctl.yaml");
  });

  it("that we hold is no obstacle", async () => {
    expect(await look(await listen(), [process.pid])).toMatchObject({ level: "ok", code: "port-ours" });
  });

  it("that nobody holds is free, and still is after looking", async () => {
    const port = await listen();
    await new Promise((resolve) => servers.pop()?.close(resolve));
    expect(await look(port)).toMatchObject({ level: "ok", code: "port-free" });
    expect(await look(port)).toMatchObject({ level: "ok", code: "port-free" });
  });

  it("on an address that this machine does not have cannot be used", async () => {
    expect(await look(18_999, [], "192.0.2.1")).toMatchObject({
      level: "blocker",
      code: "port-unusable",
      because: "this machine has no such address",
    });
  });

  it("is found to belong to this process by its socket", async () => {
    const port = await listen();
    const socket = (await listeningPorts()).find((each) => each.port === port);
    expect((await socketOwners(new Set([socket?.inode ?? ""]))).get(socket?.inode ?? "")).toContain(process.pid);
  });
});
