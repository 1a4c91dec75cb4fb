import { existsSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { SshHostConnector } from "../../../../cli/src/adapters/ssh/host-connector.js";
import { TargetUnreachable } from "../../../../cli/src/domain/errors.js";
import { fingerprintOf } from "../../../../cli/src/domain/ssh/host-key.js";
import { knownHostLine } from "../../../../cli/src/domain/ssh/known-hosts.js";
import { ms } from "../../../../cli/src/domain/units.js";
import { connectorTo, SshHome } from "../../../contract/host/host-world.js";
import { type KeyPair, newKey, TestSshServer } from "../../../support/ssh-server.js";

const never = new AbortController().signal;
const userKey = newKey();
let server: TestSshServer;
let home: SshHome;
const connectors: SshHostConnector[] = [];

beforeEach(async () => {
  server = await TestSshServer.start(userKey);
  home = new SshHome(userKey);
});
afterEach(async () => {
  for (const connector of connectors.splice(0)) await connector.close();
  await server.close();
  home.remove();
});

function connector(more: Parameters<typeof connectorTo>[2] = {}): SshHostConnector {
  const made = connectorTo(home, server.port, more);
  connectors.push(made);
  return made;
}

const keyOf = (pair: KeyPair): Buffer => Buffer.from(pair.public.split(" ")[1]!, "base64");
const name = (): string => `[127.0.0.1]:${server.port}`;
const known = (): string => readFileSync(home.knownHosts, "utf8");

async function refusal(more: Parameters<typeof connectorTo>[2] = {}): Promise<TargetUnreachable> {
  const error = await connector(more)
    .connect("box", never)
    .then(
      () => null,
      (failure: unknown) => failure,
    );
  if (!(error instanceof TargetUnreachable)) throw new Error(`expected a refusal, got ${String(error)}`);
  expect(error.message).toBe("box (127.0.0.1) cannot be reached");
  expect(server.sessions.total).toBe(0);
  return error;
}

describe("the key of a host", () => {
  it("that is not known is refused with its fingerprint and with how to trust it, and is not written down", async () => {
    const error = await refusal();
    expect(error.because).toBe(
      `its host key ssh-ed25519 ${fingerprintOf(keyOf(server.hostKey))} is not in ${home.knownHosts} or /etc/ssh/ssh_known_hosts or /etc/ssh/ssh_known_hosts2`,
    );
    expect(error.nextSteps[0]).toBe(`ssh -p ${server.port} tester@127.0.0.1   # compare the fingerprint, answer yes`);
    expect(error.nextSteps[1]).toContain("--accept-new-host-keys");
    expect(known()).toBe("");
  });

  it("that is known lets in, plain or hashed", async () => {
    writeFileSync(home.knownHosts, `${knownHostLine(name(), keyOf(server.hostKey), null)}\n`);
    await connector().connect("box", never);
    writeFileSync(home.knownHosts, `${knownHostLine(name(), keyOf(server.hostKey), Buffer.alloc(20, 7))}\n`);
    await connector().connect("box", never);
  });

  it("that is new is accepted when asked for, written down once and durably for only the user to change, and known from then on", async () => {
    writeFileSync(home.knownHosts, "# a line without its end");
    const accepting = connector({ acceptNew: true });
    await accepting.connect("box", never);
    expect(known()).toBe(`# a line without its end\n${name()} ${server.hostKey.public}\n`);
    await connector().connect("box", never);
    await connector({ acceptNew: true }).connect("box", never);
    expect(known().trim().split("\n")).toHaveLength(2);
    expect(existsSync(`${home.knownHosts}.gpuctl-lock`)).toBe(false);
  });

  it("makes the file when there is none, readable for its owner alone", async () => {
    const file = `${home.folder}/fresh/known_hosts`;
    home.configure("");
    home.knownHosts = file;
    await connector({ acceptNew: true }).connect("box", never);
    expect(known()).toBe(`${name()} ${server.hostKey.public}\n`);
    expect((statSync(file).mode & 0o777).toString(8)).toBe("600");
  });

  it("is written hashed when the ssh configuration says so", async () => {
    home.configure("Host *\n  HashKnownHosts yes\n");
    await connector({ acceptNew: true }).connect("box", never);
    expect(known()).toMatch(/^\|1\|[A-Za-z0-9+/=]+\|[A-Za-z0-9+/=]+ ssh-ed25519 \S+\n$/);
    await connector().connect("box", never);
  });

  it("is written once by several that are accepted at the same time and know nothing of each other", async () => {
    const several = [1, 2, 3, 4, 5].map(() => connector({ acceptNew: true }).connect("box", never));
    await Promise.all(several);
    expect(known()).toBe(`${name()} ${server.hostKey.public}\n`);
  });

  it("is written although a process that died has left its lock", async () => {
    const lock = `${home.knownHosts}.gpuctl-lock`;
    writeFileSync(lock, "");
    utimesSync(lock, new Date(0), new Date(0));
    await connector({ acceptNew: true }).connect("box", never);
    expect(known()).toBe(`${name()} ${server.hostKey.public}\n`);
  });

  it.each([false, true])("that has changed is refused with both fingerprints and the line (acceptNew %s)", async (acceptNew) => {
    const before = server.hostKey;
    home.know(server.port, before.public);
    await server.changeKey();
    const error = await refusal({ acceptNew });
    expect(error.because).toBe(
      `its host key has changed: it shows ssh-ed25519 ${fingerprintOf(keyOf(server.hostKey))}, ` +
        `known is ssh-ed25519 ${fingerprintOf(keyOf(before))} (${home.knownHosts}:1)`,
    );
    expect(error.nextSteps.at(-1)).toContain(`ssh-keygen -R '${name()}' -f ${home.knownHosts}`);
    expect(known()).toBe(`${name()} ${before.public}\n`);
  });

  it("of another type than the known one is a changed one: the known type was asked for first", async () => {
    home.know(server.port, newKey("ecdsa").public);
    const error = await refusal({ acceptNew: true });
    expect(error.because).toContain("its host key has changed: it shows ssh-ed25519");
  });

  it("is asked for by the type that is known, when the host has several", async () => {
    const ecdsa = newKey("ecdsa");
    await server.changeKey(ecdsa, newKey());
    home.know(server.port, ecdsa.public);
    await connector().connect("box", never);
  });

  it("that is revoked is refused, whatever else the file says and also when new keys are accepted", async () => {
    writeFileSync(home.knownHosts, `${name()} ${server.hostKey.public}\n@revoked * ${server.hostKey.public}\n`);
    const error = await refusal({ acceptNew: true });
    expect(error.because).toBe(
      `its host key ssh-ed25519 ${fingerprintOf(keyOf(server.hostKey))} is revoked at ${home.knownHosts}:2`,
    );
  });

  it("of a host that only a certificate authority vouches for leads to the system's ssh", async () => {
    writeFileSync(home.knownHosts, `@cert-authority * ${newKey().public}\n`);
    const error = await refusal();
    expect(error.because).toContain(`trusts a certificate authority for it (${home.knownHosts}:1)`);
    expect(error.nextSteps[0]).toContain("client: openssh");
  });

  it("that changes while we are connected is refused by the next connection, and the host is not used", async () => {
    home.know(server.port, server.hostKey.public);
    const host = await connector().connect("box", never);
    const command = { argv: ["true"] as const };
    expect(await host.run(command, { deadline: ms(10_000) })).toMatchObject({ code: 0 });
    await server.changeKey();
    // The first may still find the broken connection.
    await host.run(command, { deadline: ms(10_000) }).catch(() => undefined);
    const failed = host.run(command, { deadline: ms(10_000) });
    await expect(failed).rejects.toMatchObject({ because: expect.stringContaining("has changed") as string });
    expect(server.sessions.total).toBe(1);
  });
});
