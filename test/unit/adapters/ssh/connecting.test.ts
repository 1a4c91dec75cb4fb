import { chmodSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { once } from "node:events";
import { setTimeout } from "node:timers/promises";
import ssh2 from "ssh2";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { SshHostConnector } from "../../../../cli/src/adapters/ssh/host-connector.js";
import { TargetUnreachable } from "../../../../cli/src/domain/errors.js";
import { ms } from "../../../../cli/src/domain/units.js";
import { connectorTo, SshHome } from "../../../contract/host/host-world.js";
import { newKey, TestSshServer } from "../../../support/ssh-server.js";
import { until } from "../../../support/until.js";

const never = new AbortController().signal;
const patient = { deadline: ms(20_000) };
const userKey = newKey();
let server: TestSshServer;
let home: SshHome;
let connector: SshHostConnector;

beforeEach(async () => {
  server = await TestSshServer.start(userKey);
  home = new SshHome(userKey);
  home.know(server.port, server.hostKey.public);
  connector = connectorTo(home, server.port);
});
afterEach(async () => {
  await connector.close();
  await server.close();
  home.remove();
});

async function failure(made = connector): Promise<TargetUnreachable> {
  const error = await made.connect("box", never).then(
    () => null,
    (reason: unknown) => reason,
  );
  await made.close();
  if (!(error instanceof TargetUnreachable)) throw new Error(`expected TargetUnreachable, got ${String(error)}`);
  expect(error.exit).toBe("targetUnreachable");
  return error;
}

describe("many hosts", () => {
  it("are connected ten at once, each of the others when one of those is done", async () => {
    const lines: Socket[] = [];
    const silent = createServer((line) => lines.push(line)).listen(0, "127.0.0.1");
    await once(silent, "listening");
    const port = (silent.address() as AddressInfo).port;
    const others = Array.from({ length: 12 }, (_, at) => ({ name: `box-${at}`, host: "127.0.0.1", port, user: "tester" }));
    const many = connectorTo(home, server.port, { others, connectTimeout: ms(60_000) });
    const given = new AbortController();
    const all = Promise.all(others.map(({ name }) => many.connect(name, given.signal).catch(() => null)));
    await until(() => lines.length === 10, "ten are under way");
    await setTimeout(200);
    expect(lines).toHaveLength(10);
    lines[0]?.destroy();
    await until(() => lines.length === 11, "the next begins");
    await setTimeout(200);
    expect(lines).toHaveLength(11);
    given.abort();
    await all;
    await many.close();
    silent.close();
  });
});

describe("a host that cannot be reached", () => {
  it("because it accepts no key says so, and how to give it one", async () => {
    server.faults.refuseKeys = true;
    const error = await failure();
    expect(error.because).toBe("it accepts none of the keys that were offered for tester");
    expect(error.nextSteps[0]).toBe(`ssh-copy-id -p ${server.port} tester@127.0.0.1`);
  });

  it("because the key has a passphrase and no agent has it says that", async () => {
    const locked = ssh2.utils.generateKeyPairSync("ed25519", { passphrase: "secret", cipher: "aes256-ctr", rounds: 16 });
    writeFileSync(home.identityFile, locked.private);
    const error = await failure();
    expect(error.because).toBe(`there is no key to offer; ${home.identityFile} has a passphrase and its key is not in an agent`);
    expect(error.nextSteps[0]).toContain("ssh-add");
  });

  it("because the key that gpuctl.yaml names is not there says which", async () => {
    rmSync(home.identityFile);
    expect((await failure()).because).toBe(`there is no key file ${home.identityFile}`);
  });

  it("because nothing listens says so", async () => {
    const [nobody] = [server.port];
    await server.close();
    const error = await failure(connectorTo(home, nobody));
    expect(error.because).toBe(`nothing listens on port ${nobody}: no ssh server, another port, or a firewall that refuses`);
    server = await TestSshServer.start(userKey);
  });

  it("because its ssh configuration leads over another host names the transport that can", async () => {
    home.configure("Host 127.0.0.1\n  ProxyJump bastion\n");
    const error = await failure();
    expect(error.because).toBe("the ssh configuration leads to it by ProxyJump bastion, which node-ssh cannot follow");
    expect(error.nextSteps[0]).toContain("client: openssh");
  });

  it("because the ssh configuration is wrong says where", async () => {
    home.configure("Host x\n  NoSuchKeyword yes\n");
    const error = await failure();
    expect(error.message).toBe("the ssh configuration for box cannot be read");
    expect(error.because).toContain("nosuchkeyword");
  });

  it("because it refuses every session says what it said", async () => {
    server.faults.refuseSessions = true;
    const host = await connector.connect("box", never);
    await expect(host.run({ argv: ["true"] }, patient)).rejects.toMatchObject({
      message: "box (127.0.0.1) cannot be reached",
      because: expect.stringContaining("Channel open failure") as string,
    });
  });

  it("because the account has no shell says what was printed in its place", async () => {
    writeFileSync(`${home.folder}/nologin`, "#!/bin/sh\necho This account is currently not available.\nexit 1\n");
    chmodSync(`${home.folder}/nologin`, 0o755);
    server.faults.shell = `${home.folder}/nologin`;
    const host = await connector.connect("box", never);
    await expect(host.run({ argv: ["true"] }, patient)).rejects.toMatchObject({
      message: "box gives no shell to tester",
      because: "the host printed: This account is currently not available.",
    });
  });

  it("because it says nothing at all is given up after its own time, whatever the caller's is", async () => {
    server.line.freeze();
    const started = performance.now();
    const quick = connectorTo(home, server.port, { connectTimeout: ms(700) });
    const error = await failure(quick);
    expect(error.because).toBe("it did not answer within 0.7 s");
    expect(performance.now() - started).toBeLessThan(5000);
  });

  it("because something else listens there says so", async () => {
    const other: Server = createServer((socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
    other.listen(0, "127.0.0.1");
    await once(other, "listening");
    const error = await failure(connectorTo(home, (other.address() as { port: number }).port));
    expect(error.because).toMatch(/no ssh server|Invalid identification|before handshake/i);
    other.close();
  });

  it.each(["node-ssh", "openssh"] as const)(
    "because sshd turns this address away says what that may come from, and to wait (%s)",
    async (client) => {
      const turnsAway: Server = createServer((socket) => socket.end("Not allowed at this time\r\n"));
      turnsAway.listen(0, "127.0.0.1");
      await once(turnsAway, "listening");
      const error = await failure(connectorTo(home, (turnsAway.address() as { port: number }).port, { client }));
      expect(error.because).toContain("turns this address away for a while after failed logins");
      expect(error.nextSteps[0]).toBe("wait a minute, then try again");
      turnsAway.close();
    },
  );
});

describe("a connection", () => {
  it("is shared: those who ask at once wait for one, and all their commands run over it, eight at a time", async () => {
    const hosts = await Promise.all([1, 2, 3, 4].map(() => connector.connect("box", never)));
    expect(new Set(hosts).size).toBe(1);
    await Promise.all(Array.from({ length: 20 }, () => hosts[0]!.run({ argv: ["sleep", "0.2"] }, patient)));
    expect(server.line.connections).toBe(1);
    expect(server.sessions.most).toBe(8);
  });

  it("that one caller does not wait for any more is still made for the others", async () => {
    const controller = new AbortController();
    const impatient = connector.connect("box", controller.signal);
    const patientOne = connector.connect("box", never);
    controller.abort(new Error("changed my mind"));
    await expect(impatient).rejects.toThrow("changed my mind");
    expect(await (await patientOne).run({ argv: ["echo", "here"] }, patient)).toMatchObject({ stdout: "here\n" });
  });

  it("that is dead without a word ends what runs, once the host has missed its signs of life", async () => {
    await connector.close();
    connector = connectorTo(home, server.port, { keepalive: { every: ms(150), times: 3 } });
    const host = await connector.connect("box", never);
    const running = host.run({ argv: ["sleep", "30"] }, patient);
    const lost = expect(running).rejects.toMatchObject({
      message: "the connection to box was lost while sleep ran",
      because: "it gave no sign of life for 0.6 s",
    });
    await until(() => server.sessions.now === 1, "it runs");
    server.line.freeze();
    const started = performance.now();
    await lost;
    expect(performance.now() - started).toBeLessThan(5000);
    server.line.thaw();
  });

  it("that breaks while nothing runs is no error of this process, and all who come next share a new one", async () => {
    const host = await connector.connect("box", never);
    server.line.cut();
    // The first may still find the broken one.
    await host.run({ argv: ["true"] }, patient).catch(() => undefined);
    server.line.cut();
    await host.run({ argv: ["true"] }, patient).catch(() => undefined);
    const before = server.line.connections;
    const echoes = Array.from({ length: 12 }, (_, number) => host.run({ argv: ["echo", String(number)] }, patient));
    expect((await Promise.all(echoes)).map(({ stdout }) => stdout.trim())).toEqual(echoes.map((_, number) => String(number)));
    expect(server.line.connections - before).toBeLessThanOrEqual(1);
  });

  it("to a shell that prints a banner gives commands and files without it", async () => {
    server.faults.banner = "*** Welcome to gpu-1 ***\nno newline at the end";
    const host = await connector.connect("box", never);
    expect(await host.run({ argv: ["echo", "pure"] }, patient)).toEqual({ code: 0, signal: null, stdout: "pure\n", stderr: "" });
    writeFileSync(`${home.folder}/file`, "content");
    expect(Buffer.from((await host.readFile(`${home.folder}/file`, patient))!).toString()).toBe("content");
  });

  it("goes where the ssh configuration leads: name, port, user, key and the name in known_hosts", async () => {
    home.configure(
      [
        "Host gpu-box",
        "  HostName 127.0.0.1",
        `  Port ${server.port}`,
        "  User from-config",
        `  IdentityFile ${home.identityFile}`,
        "  HostKeyAlias the-box",
        "",
      ].join("\n"),
    );
    writeFileSync(home.knownHosts, `the-box ${server.hostKey.public}\n`);
    const made = connectorTo(home, server.port, { node: { name: "box", host: "gpu-box" } });
    const host = await made.connect("box", never);
    expect(await host.run({ argv: ["echo", "there"] }, patient)).toMatchObject({ stdout: "there\n" });
    expect([...server.users]).toEqual(["from-config"]);
    await made.close();
  });

  it("is made as root when neither gpuctl.yaml nor the ssh configuration says another user", async () => {
    const made = connectorTo(home, server.port, {
      node: { name: "box", host: "127.0.0.1", port: server.port, identityFile: "id_test" },
    });
    await made.connect("box", never);
    expect([...server.users]).toEqual(["root"]);
    await made.close();
  });

  it("of a node that does not exist is a mistake of the command line", async () => {
    await expect(connector.connect("bix", never)).rejects.toMatchObject({ exit: "usage", message: "there is no node bix" });
  });
});
