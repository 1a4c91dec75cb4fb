import { writeFileSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { settingsOf } from "../../../../cli/src/adapters/ssh/host-settings.js";
import { TargetUnreachable } from "../../../../cli/src/domain/errors.js";
import { configurationWithDefaults, expandPath, parseClientSettings } from "../../../../cli/src/domain/ssh/client-settings.js";
import { ms } from "../../../../cli/src/domain/units.js";
import type { CommandResult, Executor } from "../../../../cli/src/ports.js";
import { temporaryDirectories } from "../../../support/temporary.js";

const temporary = temporaryDirectories();
const printed = [
  "host gpu-1",
  "user ops",
  "hostname 10.0.0.7",
  "port 2222",
  "identitiesonly yes",
  "hashknownhosts yes",
  "identityfile ~/.ssh/first",
  "identityfile %d/second",
  "globalknownhostsfile /etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2",
  "userknownhostsfile /home/me/.ssh/known_hosts /home/me/.ssh/known_hosts2",
  "proxyjump jump.example.net:22",
  "hostkeyalias the-box",
  "identityagent ~/agent.sock",
  "",
].join("\n");

/** An `ssh -G` whose answer is known, and what it was asked. */
class AnsweringSsh implements Executor {
  asked: { argv: readonly string[]; input: string | undefined } | null = null;
  readonly #answer: Partial<CommandResult>;
  constructor(answer: Partial<CommandResult>) {
    this.#answer = answer;
  }
  run(command: { argv: readonly string[]; input?: string }): Promise<CommandResult> {
    this.asked = { argv: command.argv, input: command.input };
    return Promise.resolve({ code: 0, signal: null, stdout: "", stderr: "", ...this.#answer });
  }
}

const options = { client: "node-ssh", knownHosts: null, connectTimeout: ms(1000), acceptNew: false } as const;
const ask = (ssh: Executor, node = {}, more = {}, around = {}) =>
  settingsOf(
    { name: "box", host: "gpu-1", ...node },
    { ...options, ...more },
    { env: {}, executor: ssh, projectFile: "/project/gpuctl.yaml", configFiles: ["~/.ssh/config"], ...around },
    AbortSignal.timeout(5000),
  );

describe("what ssh -G prints", () => {
  it("is read with all of its repeated words", () => {
    expect(parseClientSettings(printed)).toEqual({
      hostName: "10.0.0.7",
      user: "ops",
      port: 2222,
      identityFiles: ["~/.ssh/first", "%d/second"],
      identitiesOnly: true,
      identityAgent: "~/agent.sock",
      userKnownHosts: ["/home/me/.ssh/known_hosts", "/home/me/.ssh/known_hosts2"],
      globalKnownHosts: ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"],
      hashKnownHosts: true,
      hostKeyAlias: "the-box",
      proxy: "ProxyJump jump.example.net:22",
    });
  });

  it("is refused when it does not say where to go", () => {
    expect(parseClientSettings("user me\n")).toBeNull();
    expect(parseClientSettings("user me\nhostname x\nport no\n")).toBeNull();
  });

  it("means no other host in between when it says none", () => {
    const base = "user me\nhostname x\nport 22\n";
    expect(parseClientSettings(`${base}proxyjump none\nproxycommand none\n`)?.proxy).toBeNull();
    expect(parseClientSettings(`${base}proxycommand nc %h %p\n`)?.proxy).toBe("ProxyCommand nc %h %p");
  });

  it("has paths with tokens", () => {
    const names = { home: "/home/me", localUser: "me", host: "gpu-1", user: "ops" };
    expect(expandPath("~/.ssh/%u-%r-%h-%%", names)).toBe("/home/me/.ssh/me-ops-gpu-1-%");
    expect(expandPath("%d/x~", names)).toBe("/home/me/x~");
    expect(expandPath("~other/x", names)).toBe("~other/x");
  });
});

describe("the settings of a host", () => {
  it("are asked from ssh with what gpuctl.yaml says, and root where nobody says a user", async () => {
    const ssh = new AnsweringSsh({ stdout: printed });
    await ask(ssh, { user: "deploy", port: 22 });
    expect(ssh.asked?.argv.slice(4)).toEqual(["-p", "22", "-l", "deploy", "--", "gpu-1"]);
    expect(ssh.asked?.input).toBe('Include "~/.ssh/config"\nHost *\n  User root\n');
    expect(configurationWithDefaults([], "root")).toBe("Host *\n  User root\n");
  });

  it("have absolute paths: of gpuctl.yaml against its folder, of ssh against the real home", async () => {
    const { homedir } = userInfo();
    const settings = await ask(new AnsweringSsh({ stdout: printed }), { identityFile: "keys/deploy" }, { knownHosts: "known" });
    expect(settings.identityFiles).toEqual(["/project/keys/deploy", `${homedir}/.ssh/first`, `${homedir}/second`]);
    expect(settings.requiredIdentity).toBe("/project/keys/deploy");
    expect(settings.knownHosts).toEqual(["/project/known", "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"]);
    expect(settings.agent).toBe(`${homedir}/agent.sock`);
  });

  it.each([
    ["", "/run/agent"],
    ["identityagent SSH_AUTH_SOCK\n", "/run/agent"],
    ["identityagent $OTHER\n", "/run/other"],
    ["identityagent none\n", null],
  ])("take the agent that %j names", async (line, agent) => {
    const ssh = new AnsweringSsh({ stdout: `user me\nhostname x\nport 22\n${line}` });
    const env = { SSH_AUTH_SOCK: "/run/agent", OTHER: "/run/other" };
    expect((await ask(ssh, {}, {}, { env })).agent).toBe(agent);
  });

  it("are the defaults where there is no ssh program and no configuration", async () => {
    const settings = await ask(new AnsweringSsh({ code: 127 }), {}, {}, { configFiles: [join(temporary(), "none")] });
    expect(settings).toMatchObject({ hostName: "gpu-1", user: "root", port: 22, proxy: null });
    expect(settings.identityFiles[0]).toBe(`${userInfo().homedir}/.ssh/id_ed25519`);
  });

  it("are not guessed where there is a configuration and no ssh program to read it", async () => {
    const file = join(temporary(), "config");
    writeFileSync(file, "Host *\n");
    const asked = ask(new AnsweringSsh({ code: 127 }), {}, {}, { configFiles: [file] });
    await expect(asked).rejects.toThrow(TargetUnreachable);
    await expect(asked).rejects.toMatchObject({ nextSteps: ["apt-get install openssh-client"] });
  });

  it("are an error in the words of ssh where its configuration is wrong", async () => {
    const asked = ask(new AnsweringSsh({ code: 255, stderr: "line 3: Bad configuration option: nonsense\n" }));
    await expect(asked).rejects.toMatchObject({ because: "line 3: Bad configuration option: nonsense" });
  });
});
