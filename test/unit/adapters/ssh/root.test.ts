import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { SshHostConnector } from "../../../../cli/src/adapters/ssh/host-connector.js";
import { Failed } from "../../../../cli/src/domain/errors.js";
import { relayScript } from "../../../../cli/src/domain/ssh/socket-relay.js";
import { ms } from "../../../../cli/src/domain/units.js";
import { connectorTo, SshHome } from "../../../contract/host/host-world.js";
import { newKey, TestSshServer } from "../../../support/ssh-server.js";
import { SudoStandIn } from "../../../support/sudo-stand-in.js";

const never = new AbortController().signal;
const patient = { deadline: ms(20_000) };
let server: TestSshServer;
let home: SshHome;
let account: SudoStandIn;
let connector: SshHostConnector;

beforeEach(async () => {
  const userKey = newKey();
  server = await TestSshServer.start(userKey);
  home = new SshHome(userKey);
  home.know(server.port, server.hostKey.public);
  account = new SudoStandIn(home.make("account"));
  connector = connectorTo(home, server.port);
});

afterEach(async () => {
  await connector.close();
  await server.close();
  home.remove();
});

describe("a host as root", () => {
  it("is asked who logged in: sudo is for an account that is not root, whatever gpuctl.yaml says", async () => {
    server.faults.path = account.path;
    await connector.close();
    connector = connectorTo(home, server.port, { user: "root" });
    const host = await connector.connectAsRoot("box", never);
    expect(account.uses).toBe(1);
    await host.run({ argv: ["true"] }, patient);
    await host.writeFile(join(home.folder, "file"), "x", 0o600, patient);
    expect(account.uses).toBe(3);
    await (await connector.connect("box", never)).run({ argv: ["true"] }, patient);
    expect(account.uses).toBe(3);
  });

  it("shares one connection, and its sessions, with the account", async () => {
    server.faults.path = account.path;
    const [host, plain] = [await connector.connectAsRoot("box", never), await connector.connect("box", never)];
    const both = [host, plain].flatMap((each) =>
      [1, 2, 3, 4, 5, 6, 7, 8].map(() => each.run({ argv: ["sleep", "0.2"] }, patient)),
    );
    await Promise.all(both);
    expect(server.line.connections).toBe(1);
    expect(server.sessions.most).toBeLessThanOrEqual(8);
  });

  it("that lets nobody become root is refused with what to type, and tried again", async () => {
    server.faults.path = account.path;
    account.refuse();
    const error = (await connector.connectAsRoot("box", never).catch((thrown: unknown) => thrown)) as Failed;
    expect(error).toBeInstanceOf(Failed);
    expect(error).toMatchObject({ message: "tester cannot become root on box", because: "sudo: a password is required" });
    expect(error.nextSteps[1]).toContain("tester ALL=(ALL) NOPASSWD: ALL");
    account.allow();
    expect(await (await connector.connectAsRoot("box", never)).run({ argv: ["echo", "yes"] }, patient)).toMatchObject({
      code: 0,
    });
  });

  it("ends with its children what runs past its deadline, though sudo stands between", async () => {
    server.faults.path = account.path;
    const host = await connector.connectAsRoot("box", never);
    const witness = join(home.folder, "late");
    const running = host.run({ argv: ["sh", "-c", `sleep 2; touch ${witness}`] }, { deadline: ms(500) });
    await expect(running).rejects.toThrow("did not end in time");
    await new Promise((resolve) => setTimeout(resolve, 2500));
    expect(existsSync(witness)).toBe(false);
  });
});

describe("what carries a socket of services for root", () => {
  const has = (program: string): boolean =>
    (process.env["PATH"] ?? "").split(delimiter).some((folder) => existsSync(join(folder, program)));

  it.each(["python3", "perl", "socat"].filter(has))("is %s where that is what the host has", async (program) => {
    const folder = mkdtempSync(join(tmpdir(), "gpuctl-relay-"));
    const bin = join(folder, "bin");
    mkdirSync(bin);
    // What stands in a PATH may itself be a script that needs the whole of it.
    const whole = `PATH='${process.env["PATH"] ?? ""}' exec ${program} "$@"`;
    writeFileSync(join(bin, program), `#!/bin/sh\n${whole}\n`, { mode: 0o755 });
    const path = join(folder, "it's a.sock");
    const bytes = Buffer.alloc(1_000_000, "0123456789\u001e\n");
    const echo = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket)).listen(path);
    await once(echo, "listening");
    try {
      const child = spawn("/bin/sh", ["-c", relayScript(path)], { env: { ...process.env, PATH: `${bin}:/nonexistent` } });
      const chunks: Buffer[] = [];
      let stderr = "";
      child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
      child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
      child.stdin.on("error", () => undefined);
      child.stdin.end(bytes);
      const [code] = (await once(child, "close")) as [number];
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
    } finally {
      echo.close();
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
