import { readFileSync, writeFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { SshHostConnector } from "../../../../cli/src/adapters/ssh/host-connector.js";
import { TargetUnreachable } from "../../../../cli/src/domain/errors.js";
import { fingerprintOf } from "../../../../cli/src/domain/ssh/host-key.js";
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

type Client = "node-ssh" | "openssh";

/** Connects to a host whose inventory pins `keys`. */
async function connect(client: Client, keys: readonly KeyPair[], acceptNew = false): Promise<unknown> {
  const hostKeys = keys.map((key) => key.public.split(" ").slice(0, 2).join(" "));
  const reach = { host: "127.0.0.1", port: server.port, user: "tester", identityFile: home.identityFile };
  const node = { name: "box", ...reach, hostKeys, pinnedBy: "stack prod" };
  const connector = connectorTo(home, server.port, { client, node, acceptNew });
  connectors.push(connector);
  return connector.connect("box", never).then(
    () => "connected",
    (error: unknown) => error,
  );
}

const known = (): string => readFileSync(home.knownHosts, "utf8");
const fingerprint = ({ public: line }: KeyPair): string => fingerprintOf(Buffer.from(line.split(" ")[1]!, "base64"));

describe.each<Client>(["node-ssh", "openssh"])("keys of an inventory, with %s", (client) => {
  it("are enough: known_hosts is empty and stays so", async () => {
    expect(await connect(client, [newKey("ecdsa"), server.hostKey])).toBe("connected");
    expect(known()).toBe("");
  });

  it("count alone: neither known_hosts nor acceptNew lets another host in", async () => {
    home.know(server.port, server.hostKey.public);
    const before = known();
    const failure = await connect(client, [newKey()], true);
    expect(failure).toBeInstanceOf(TargetUnreachable);
    expect((failure as TargetUnreachable).because).toContain("stack prod");
    expect((failure as TargetUnreachable).nextSteps.at(-1)).toContain("gpuctl infra up");
    expect(server.sessions.total).toBe(0);
    expect(known()).toBe(before);
  });
});

it("the refusal names the key that was shown and the one that is pinned", async () => {
  const other = newKey();
  const failure = (await connect("node-ssh", [other])) as TargetUnreachable;
  expect(failure.because).toBe(
    `its host key has changed: it shows ssh-ed25519 ${fingerprint(server.hostKey)}, known is ssh-ed25519 ${fingerprint(other)} (stack prod)`,
  );
});

it("what known_hosts revokes stays revoked", async () => {
  const [type, key] = server.hostKey.public.split(" ");
  writeFileSync(home.knownHosts, `@revoked * ${type!} ${key!}\n`);
  const failure = (await connect("node-ssh", [server.hostKey])) as TargetUnreachable;
  expect(failure.because).toContain("is revoked at");
});
