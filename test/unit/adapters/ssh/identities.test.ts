import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import ssh2, { type AnyAuthMethod, type ParsedKey } from "ssh2";
import { afterEach, describe, expect, it } from "vitest";
import { findIdentities } from "../../../../cli/src/adapters/ssh/identities.js";
import { type KeyPair, newKey } from "../../../support/ssh-server.js";
import { temporaryDirectories } from "../../../support/temporary.js";

const temporary = temporaryDirectories();
const [plain, held, other] = [newKey(), newKey(), newKey()];
const parsed = (pair: KeyPair): ParsedKey => ssh2.utils.parseKey(pair.private) as ParsedKey;
let agentServer: Server | undefined;

afterEach(() => {
  agentServer?.close();
  agentServer = undefined;
});

/** An agent with these keys, or one that accepts and says nothing. */
async function agentWith(folder: string, keys: readonly KeyPair[] | "silent"): Promise<string> {
  const path = join(folder, "agent.sock");
  agentServer = createServer((socket) => {
    socket.on("error", () => undefined);
    if (keys === "silent") return;
    const protocol = new ssh2.AgentProtocol(false);
    protocol.on("identities", (request) => protocol.getIdentitiesReply(request, keys.map(parsed)));
    protocol.on("sign", (request, key, data) => {
      const pair = keys.find((each) => parsed(each).getPublicSSH().equals(key.getPublicSSH()));
      if (pair === undefined) protocol.failureReply(request);
      else protocol.signReply(request, parsed(pair).sign(data));
    });
    socket.pipe(protocol).pipe(socket);
  });
  agentServer.listen(path);
  await once(agentServer, "listening");
  return path;
}

function files(): { folder: string; write: (name: string, pair: KeyPair) => string } {
  const folder = temporary();
  mkdirSync(join(folder, "keys"));
  return {
    folder,
    write: (name, pair) => {
      const path = join(folder, "keys", name);
      writeFileSync(path, pair.private);
      writeFileSync(`${path}.pub`, `${pair.public}\n`);
      return path;
    },
  };
}

/** Which keys are tried, in order, by the names given to them. */
async function order(methods: readonly AnyAuthMethod[], names: Readonly<Record<string, KeyPair>>): Promise<string[]> {
  const nameOf = (key: ParsedKey): string =>
    Object.keys(names).find((name) => parsed(names[name]!).getPublicSSH().equals(key.getPublicSSH())) ?? "unknown";
  const lists = methods.map(async (method): Promise<string[]> => {
    if (method.type === "publickey") return [`file ${nameOf(method.key as ParsedKey)}`];
    if (method.type !== "agent" || typeof method.agent === "string") return [method.type];
    const agent = method.agent;
    const keys = await new Promise<readonly ParsedKey[]>((resolve) =>
      agent.getIdentities((_error, all) => resolve((all ?? []) as ParsedKey[])),
    );
    return keys.map((key) => `agent ${nameOf(key)}`);
  });
  return (await Promise.all(lists)).flat();
}

describe("the keys that are tried", () => {
  it("are in ssh's order: named ones the agent holds, the agent's others, files; the one of gpuctl.yaml before all", async () => {
    const { folder, write } = files();
    const names = { plain, held, other };
    const request = { user: "u", only: false, agent: await agentWith(folder, [other, held]) };
    const paths = [write("plain", plain), write("held", held)];
    const usual = await findIdentities({ ...request, files: paths, required: null });
    expect(await order(usual.methods, names)).toEqual(["none", "agent held", "agent other", "file plain"]);
    const named = await findIdentities({ ...request, files: paths, required: paths[0]! });
    expect(await order(named.methods, names)).toEqual(["none", "file plain", "agent held", "agent other"]);
    const only = await findIdentities({ ...request, files: paths, required: null, only: true });
    expect(await order(only.methods, names)).toEqual(["none", "agent held", "file plain"]);
    expect([...usual.notes, ...named.notes]).toEqual([]);
  });

  it("include one with a passphrase only through the agent; without it the reason is told", async () => {
    const { folder, write } = files();
    const path = write("locked", held);
    const locked = ssh2.utils.generateKeyPairSync("ed25519", { passphrase: "x", cipher: "aes256-ctr", rounds: 16 });
    writeFileSync(path, locked.private);
    const without = await findIdentities({ user: "u", files: [path], required: path, only: false, agent: null });
    expect(without).toEqual({
      methods: [{ type: "none", username: "u" }],
      notes: [`${path} has a passphrase and its key is not in an agent`],
    });
    const agent = await agentWith(folder, [held]);
    const withAgent = await findIdentities({ user: "u", files: [path], required: path, only: true, agent });
    expect(await order(withAgent.methods, { held })).toEqual(["none", "agent held"]);
    expect(withAgent.notes).toEqual([]);
  });

  it("are still found when the agent is gone or says nothing", async () => {
    const { folder, write } = files();
    const request = { user: "u", files: [write("plain", plain)], required: null, only: false };
    const gone = await findIdentities({ ...request, agent: join(folder, "no.sock") });
    expect(await order(gone.methods, { plain })).toEqual(["none", "file plain"]);
    const silent = await findIdentities({ ...request, agent: await agentWith(folder, "silent") });
    expect(await order(silent.methods, { plain })).toEqual(["none", "file plain"]);
  });

  it("are those that exist; a missing one is an error only when gpuctl.yaml names it", async () => {
    const path = join(temporary(), "none");
    const request = { user: "u", files: [path], only: false, agent: null };
    expect((await findIdentities({ ...request, required: null })).methods).toEqual([{ type: "none", username: "u" }]);
    await expect(findIdentities({ ...request, required: path })).rejects.toThrow(`there is no key file ${path}`);
  });

  it("of a kind that only the system's ssh can use are told apart", async () => {
    const path = join(temporary(), "sk");
    writeFileSync(path, "-----BEGIN OPENSSH PRIVATE KEY-----\nbm90aGluZw==\n-----END OPENSSH PRIVATE KEY-----\n");
    const { notes } = await findIdentities({ user: "u", files: [path], required: null, only: false, agent: null });
    expect(notes).toEqual([`${path} is of a kind that only the system's ssh can use`]);
  });
});
