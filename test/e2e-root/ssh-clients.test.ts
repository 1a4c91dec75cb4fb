/** What is particular to the system's ssh as a transport, and to keys and configuration, against the real sshd of Debian. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { SshHostConnector } from "../../cli/src/adapters/ssh/host-connector.js";
import { TargetUnreachable } from "../../cli/src/domain/errors.js";
import { ms } from "../../cli/src/domain/units.js";
import { connectorTo, SshHome } from "../contract/host/host-world.js";
import { packageRoot } from "../support/run-command.js";
import { newKey } from "../support/ssh-server.js";
import { RealSshd } from "../support/sshd.js";
import { until } from "../support/until.js";

const never = new AbortController().signal;
const patient = { deadline: ms(30_000) };
const userKey = newKey();
const transports = ["node-ssh", "openssh"] as const;
let server: RealSshd;
let home: SshHome;
const connectors: SshHostConnector[] = [];
let leftovers: readonly string[];

const masterFolders = (): readonly string[] => readdirSync(tmpdir()).filter((name) => /^gpuctl-[A-Za-z0-9]{6}$/.test(name));

beforeEach(async () => {
  leftovers = masterFolders();
  server = await RealSshd.start(userKey, "MaxSessions 10");
  home = new SshHome(userKey);
});
afterEach(async () => {
  for (const connector of connectors.splice(0)) await connector.close();
  await server.close();
  home.remove();
  expect(masterFolders()).toEqual(leftovers);
});

function connector(client: (typeof transports)[number], more: Parameters<typeof connectorTo>[2] = {}): SshHostConnector {
  const made = connectorTo(home, server.port, { client, user: server.user, ...more });
  connectors.push(made);
  return made;
}

async function refusal(made: SshHostConnector): Promise<TargetUnreachable> {
  const error = await made.connect("box", never).then(
    () => null,
    (failure: unknown) => failure,
  );
  if (!(error instanceof TargetUnreachable)) throw new Error(`expected a refusal, got ${String(error)}`);
  return error;
}

const fingerprint = (): string =>
  spawnSync("ssh-keygen", ["-lf", join(server.folder, "host.pub")], { encoding: "utf8" }).stdout.split(" ")[1]!;

describe.each(transports)("by %s", (client) => {
  it("an unknown host key is refused with its fingerprint; asked for, it is accepted, remembered, and never replaced", async () => {
    const unknown = await refusal(connector(client));
    expect(unknown.message).toBe("box (127.0.0.1) cannot be reached");
    expect(unknown.nextSteps.join()).toContain("--accept-new-host-keys");
    expect(readFileSync(home.knownHosts, "utf8")).toBe("");
    await connector(client, { acceptNew: true }).connect("box", never);
    const line = readFileSync(home.knownHosts, "utf8");
    expect(line).toContain(server.hostKey.split(" ")[1]);
    await connector(client).connect("box", never);
    const before = fingerprint();
    server.makeHostKey();
    await server.restart();
    const changed = await refusal(connector(client, { acceptNew: true }));
    expect(changed.because).toContain("has changed");
    expect(changed.because).toContain(fingerprint());
    expect(changed.because).toContain(`${home.knownHosts}:1`);
    if (client === "node-ssh") expect(changed.because).toContain(before);
    expect(readFileSync(home.knownHosts, "utf8")).toBe(line);
  });

  it("the other transport knows the host key that this one wrote", async () => {
    await connector(client, { acceptNew: true }).connect("box", never);
    await connector(client === "openssh" ? "node-ssh" : "openssh").connect("box", never);
  });

  it.each(["rsa", "ecdsa"])("a host with a key of type %s is known again", async (type) => {
    server.makeHostKey(type);
    await server.restart();
    home.know(server.port, server.hostKey);
    await connector(client).connect("box", never);
  });

  it("a key that the host does not accept is refused with what to type", async () => {
    home.know(server.port, server.hostKey);
    writeFileSync(home.identityFile, newKey().private);
    const error = await refusal(connector(client));
    expect(error.because).toContain("it accepts none of the keys that were offered");
    expect(error.nextSteps.join()).toContain(`ssh-copy-id -p ${server.port} ${server.user}@127.0.0.1`);
  });

  it("nothing of an agent, a terminal or this environment reaches the host", async () => {
    home.know(server.port, server.hostKey);
    home.configure("Host *\n  ForwardAgent yes\n  RequestTTY force\n  RemoteCommand false\n  LocalForward 1 127.0.0.1:1\n");
    const host = await connector(client).connect("box", never);
    const script = 'echo "agent=$SSH_AUTH_SOCK"; tty; exit 0';
    expect((await host.run({ argv: ["sh", "-c", script] }, patient)).stdout).toBe("agent=\nnot a tty\n");
  });

  it("what a host prints when a shell begins is in no output and no file", async () => {
    await server.close();
    server = await RealSshd.start(userKey, "Banner /etc/debian_version\nPrintMotd yes");
    home.know(server.port, server.hostKey);
    const host = await connector(client).connect("box", never);
    expect(await host.run({ argv: ["echo", "pure"] }, patient)).toMatchObject({ stdout: "pure\n", stderr: "" });
  });

  it("forty commands and files at once fit into one connection of a host with the usual limits", async () => {
    home.know(server.port, server.hostKey);
    const host = await connector(client).connect("box", never);
    const folder = home.make("many");
    await Promise.all(
      Array.from({ length: 20 }, async (_, number) => {
        const path = join(folder, String(number));
        await host.writeFile(path, `${number}`, 0o600, patient);
        expect(await host.run({ argv: ["cat", path] }, patient)).toMatchObject({ code: 0, stdout: `${number}` });
      }),
    );
    expect(server.line.connections).toBe(1);
  });

  it("the secret in a file's content is in the arguments of no process while it is written", async () => {
    home.know(server.port, server.hostKey);
    const host = await connector(client).connect("box", never);
    const secret = `secret-${"z".repeat(24)}`;
    const file = join(home.make("secrets"), "file");
    const over = new AbortController();
    const watching = (async () => {
      let looked = 0;
      while (!over.signal.aborted) {
        looked += 1;
        if (argumentsOfAll().some((text) => text.includes(secret))) return "seen";
        await new Promise(setImmediate);
      }
      return looked > 0 ? "never seen" : "never looked";
    })();
    for (let round = 0; round < 10; round += 1) await host.writeFile(file, secret.repeat(5000), 0o600, patient);
    over.abort();
    expect(await watching).toBe("never seen");
  });
});

describe("the system's ssh", () => {
  it("follows the configuration over another host, which node-ssh says it cannot", async () => {
    home.configure(
      [
        `Host 127.0.0.1`,
        `  ProxyCommand ssh -F none -i ${home.identityFile} -o UserKnownHostsFile=${home.knownHosts} -p ${server.port} -W 127.0.0.1:${server.port} ${server.user}@localhost`,
        "",
      ].join("\n"),
    );
    const key = server.hostKey;
    writeFileSync(home.knownHosts, `[127.0.0.1]:${server.port} ${key}\n[localhost]:${server.port} ${key}\n`);
    expect((await refusal(connector("node-ssh"))).because).toContain("ProxyCommand ssh");
    const host = await connector("openssh").connect("box", never);
    expect(await host.run({ argv: ["echo", "over"] }, patient)).toMatchObject({ stdout: "over\n" });
  });

  it("is not installed: that is what is said", async () => {
    const empty = home.make("empty-path");
    const made = connectorTo(home, server.port, {
      client: "openssh",
      user: server.user,
      path: empty,
      configFile: join(empty, "none"),
    });
    const error = await refusal(made);
    expect(error.because).toBe("the ssh program is not installed");
    expect(error.nextSteps).toEqual(["apt-get install openssh-client"]);
    await made.close();
  });

  it("works where the temporary directory has a long name: the socket's path is kept short", async () => {
    home.know(server.port, server.hostKey);
    const long = join(home.folder, "x".repeat(90));
    mkdirSync(long);
    const usual = process.env["TMPDIR"];
    process.env["TMPDIR"] = long;
    try {
      const host = await connector("openssh").connect("box", never);
      expect(await host.run({ argv: ["echo", "short"] }, patient)).toMatchObject({ stdout: "short\n" });
      expect(readdirSync(long)).toEqual([]);
      await host.close();
    } finally {
      if (usual === undefined) delete process.env["TMPDIR"];
      else process.env["TMPDIR"] = usual;
    }
  });

  it("has its socket in a folder of its own, and both are gone when it is closed", async () => {
    home.know(server.port, server.hostKey);
    const host = await connector("openssh").connect("box", never);
    await host.run({ argv: ["true"] }, patient);
    const [folder] = masterFolders().filter((name) => !leftovers.includes(name));
    const socket = join(tmpdir(), folder!, "m");
    expect(Buffer.byteLength(socket)).toBeLessThan(104 - 17);
    expect(existsSync(socket)).toBe(true);
    await host.close();
    await until(() => !existsSync(socket), "the socket is gone");
  });

  it("ends with the process that started it, also when that is killed", async () => {
    home.know(server.port, server.hostKey);
    const node = { name: "box", host: "127.0.0.1", port: server.port, user: server.user, identityFile: home.identityFile };
    const ssh = { client: "openssh", knownHosts: home.knownHosts, connectTimeout: 10_000, acceptNew: false };
    const options = { nodes: [node], ssh, projectFile: join(home.folder, "gpuctl.yaml"), configFile: home.configFile };
    const typescript = join(packageRoot, "test/support/run-typescript.mjs");
    const program = join(packageRoot, "test/support/ssh-holder.ts");
    const holder = spawn(process.execPath, ["--import", typescript, program, JSON.stringify(options)], {
      stdio: ["ignore", "pipe", "inherit"],
      env: { ...process.env, TMPDIR: home.make("tmp") },
    });
    await once(holder.stdout, "data");
    const ours = (): boolean => argumentsOfAll().some((text) => text.includes(join(home.folder, "tmp")));
    expect(ours()).toBe(true);
    holder.kill("SIGKILL");
    await until(() => !ours(), "no ssh of it runs any more");
  });
});

function argumentsOfAll(): readonly string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        return [readFileSync(`/proc/${pid}/cmdline`, "utf8")];
      } catch {
        return [];
      }
    });
}
