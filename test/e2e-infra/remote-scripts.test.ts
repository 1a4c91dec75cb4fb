/** The small scripts that the infrastructure runs on hosts, for real: files, keys and exit codes; systemd is a stand-in. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { readHostKey, readOneTimeKey, makeOneTimeKey } from "../../infra/lib/one-time-key.js";
import { remoteProgram, type RemoteFile } from "../../infra/lib/remote-program.js";
import { hostScript, remoteScript } from "../../infra/scripts.js";
import { ScratchHost } from "../support/infra/scratch-host.js";
import { execFileSync } from "node:child_process";

let host: ScratchHost;
beforeEach(() => {
  host = new ScratchHost();
  host.standIn("sleep", "exit 0");
});
afterEach(() => {
  host.remove();
});

function publicKey(name: string): { line: string; fingerprint: string } {
  const line = `ssh-ed25519 ${Buffer.from(`\0\0\0\x0bssh-ed25519\0\0\0 ${name.padEnd(32, ".")}`).toString("base64")} ${name}`;
  const [, fingerprint = ""] = execFileSync("ssh-keygen", ["-lf", "-"], { input: line }).toString().split(" ");
  return { line, fingerprint };
}

const directory = "/var/lib/gpuctl/host";
const file = (path: string, content: string): RemoteFile => ({ path, mode: "0644", content });

describe("meeting a new server", () => {
  const ed25519 = "/etc/ssh/ssh_host_ed25519_key";
  const ecdsa = "/etc/ssh/ssh_host_ecdsa_key";
  const contact = () => host.run(remoteProgram(remoteScript("first-contact"), {}));

  test("it makes its lasting key itself, once, and says its public half", () => {
    host.run(`rm -f ${ed25519}*`);
    const first = contact();
    expect(first).toMatchObject({ code: 0, stderr: "" });
    expect(host.read(`${ed25519}.pub`)).toContain(readHostKey(first.stdout));
    expect(host.calls()).toContain("systemctl reload ssh.service");
    expect(contact().stdout).toBe(first.stdout);
    expect(host.calls()).toEqual([]);
  });

  test("it then replaces the key of its user data, and no other, also when that is asked for again", () => {
    const { privateKey, publicKey } = readOneTimeKey(execFileSync("/bin/sh", ["-c", makeOneTimeKey]).toString());
    const forget = () => host.run(remoteProgram(remoteScript("forget-first-key"), { GPUCTL_FIRST_KEY: publicKey }));
    host.run(remoteProgram("main() { :; }", {}, [file(ecdsa, privateKey), file(`${ecdsa}.pub`, publicKey)]));
    expect(forget().code).toBe(0);
    const own = host.read(`${ecdsa}.pub`);
    expect(own).not.toContain(publicKey);
    expect(host.read(ecdsa)).not.toBe(privateKey);
    expect(forget().code).toBe(0);
    expect(host.read(`${ecdsa}.pub`)).toBe(own);
  });
});

describe("operators of a cloud server", () => {
  const keys = "/root/.ssh/authorized_keys";
  const [first, second, former] = ["first", "second", "former"].map((name) => publicKey(name));
  const letIn = (...operators: string[]) => {
    const connection = "export SSH_CONNECTION='198.51.100.7 51234 10.0.0.2 22'\n";
    return host.run(connection + remoteProgram(remoteScript("operators"), { GPUCTL_OPERATORS: operators.join("\n") }));
  };
  const loggedInWith = (fingerprint: string) => {
    const line = `Accepted publickey for root from 198.51.100.7 port 51234 ssh2: ED25519 ${fingerprint}`;
    host.standIn(
      "journalctl",
      `echo 'Accepted publickey for root from 198.51.100.8 port 51234 ssh2: RSA SHA256:x'; echo '${line}'`,
    );
  };

  beforeEach(() => {
    loggedInWith(first!.fingerprint);
    host.run(`mkdir -p /root/.ssh; printf '%s\\n' 'ssh-ed25519 AAAA nobody' '${former!.line}' '${first!.line}' >${keys}`);
  });

  test("are those of the list alone, from the first time on: what came with the creation goes", () => {
    expect(letIn(first!.line, second!.line)).toEqual({ code: 0, stdout: "2 keys\n", stderr: "" });
    const block = `# gpuctl operators begin\n${first!.line}\n${second!.line}\n# gpuctl operators end\n`;
    expect(host.read(keys)).toBe(block);
    expect(letIn(first!.line, second!.line)).toMatchObject({ code: 0, stdout: "unchanged\n" });
    expect(host.read(`${keys}.before-gpuctl`)).toBe(`ssh-ed25519 AAAA nobody\n${former!.line}\n${first!.line}\n`);
    const seen = host.run(`cd /root/.ssh && stat -c '%a %U %n' *`).stdout;
    expect(seen).toBe("600 root authorized_keys\n600 root authorized_keys.before-gpuctl\n");
  });

  test("who leaves the list leaves the server, and a key that somebody put there by hand stays", () => {
    letIn(first!.line, second!.line);
    host.run(`echo 'ssh-ed25519 AAAA rescue' >>${keys}`);
    expect(letIn(first!.line)).toMatchObject({ code: 0, stdout: "1 keys\n" });
    const block = `# gpuctl operators begin\n${first!.line}\n# gpuctl operators end\n`;
    expect(host.read(keys)).toBe(`ssh-ed25519 AAAA rescue\n${block}`);
  });

  test("a list without the key of the very connection is refused, and changes nothing", () => {
    const before = host.read(keys);
    const { code, stdout, stderr } = letIn(second!.line);
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toContain(`the key that you log in with (${first!.fingerprint}) is not in operators.keys`);
    expect(host.read(keys)).toBe(before);
    expect(host.written().filter((path) => path.startsWith("/root/.ssh/"))).toEqual([keys]);
    // Where nobody wrote down which key it was, the list counts.
    host.standIn("journalctl", "exit 1");
    expect(letIn(second!.line).code).toBe(0);
  });
});

describe("preparing a host", () => {
  const prepare = (script: string, restart: "never" | "allow" | "always") =>
    host.run(
      remoteProgram(remoteScript("prepare"), { GPUCTL_RESTART: restart }, [
        file(`${directory}/prepare-host.sh`, script),
        file(`${directory}/given-values`, "GPUCTL_GPU=none\n"),
      ]),
    );

  test("runs the script with its values, and shows what it says", () => {
    const { code, stdout, stderr } = prepare('echo "got $1: $(cat "$1")"', "never");
    expect({ code, stdout }).toEqual({ code: 0, stdout: "prepared\n" });
    expect(stderr).toContain(`got ${directory}/given-values: GPUCTL_GPU=none`);
  });

  test("waits until the provider's own first boot is over, and does not mind how that ended", () => {
    host.standIn("cloud-init", "exit 2");
    expect(prepare("exit 0", "never").code).toBe(0);
    expect(host.calls()).toEqual([]);
    host.run("mkdir /run/cloud-init");
    expect(prepare("exit 0", "never").code).toBe(0);
    expect(host.calls()).toEqual(["cloud-init status --wait"]);
  });

  test("fails with the last lines of the log when the script does", () => {
    const { code, stderr } = prepare(
      'mkdir -p /var/log/gpuctl; echo "{\\"step\\":\\"docker\\"}" >/var/log/gpuctl/prepare.jsonl; exit 1',
      "never",
    );
    expect(code).toBe(1);
    expect(stderr).toContain("the host is not prepared (1)");
    expect(stderr).toContain('{"step":"docker"}');
  });

  test("restarts the host only where the stack allows it, and takes no new connection before that", () => {
    host.standIn("docker", "exit 0");
    const refused = prepare("exit 4", "never");
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain("Next: restart it, then pulumi up");
    expect(host.calls().filter((call) => call.includes("reboot"))).toEqual([]);
    expect(prepare("exit 4", "allow")).toMatchObject({ code: 0, stdout: "restarting\n" });
    const calls = host.calls().filter((call) => /ssh|reboot/.test(call));
    expect(calls.map((call) => call.replace(/ --quiet| --unit=\S+/g, ""))).toEqual([
      "systemd-run --on-active=300 systemctl start ssh.socket ssh.service",
      "systemctl stop ssh.socket ssh.service sshd.socket sshd.service",
      "systemd-run --on-active=3 systemctl reboot",
    ]);
  });

  test("restarts no host under releases, nor where Docker does not say what serves, unless the stack says always", () => {
    const restarts = () => host.calls().filter((call) => /systemctl (?:stop|reboot)/.test(call));
    for (const [docker, said] of [
      ["printf 'shop-embedder-a\\nshop-reranker-b\\n'", "releases serve on it: shop-embedder-a, shop-reranker-b. Next: "],
      ["exit 1", "Docker does not say which"],
    ] as const) {
      host.standIn("docker", docker);
      const { code, stdout, stderr } = prepare("exit 4", "allow");
      expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
      expect(stderr).toContain(said);
      expect(stderr).toContain("reboot: always");
      expect(restarts()).toEqual([]);
    }
    host.standIn("docker", "echo shop-embedder-a");
    expect(prepare("exit 4", "always")).toMatchObject({ code: 0, stdout: "restarting\n" });
    expect(restarts()).toHaveLength(2);
  });

  test("is over when the host says so for this very script, not for an earlier one", () => {
    const result = (script: string, state: string) => `{"schemaVersion":1,"script":"${script}","state":"${state}"}\n`;
    const verify = (content: string) =>
      host.run(remoteProgram(remoteScript("verify"), { GPUCTL_SCRIPT: "ab" }, [file(`${directory}/result.json`, content)]));
    expect(verify(result("ab", "prepared"))).toMatchObject({ code: 0, stdout: result("ab", "prepared") });
    expect(verify(result("ab", "failed"))).toMatchObject({ code: 1, stdout: "" });
    // An old result becomes the right one while it is waited for.
    host.standIn("sleep", `echo '${result("ab", "prepared").trim()}' >${directory}/result.json`);
    expect(verify(result("cd", "prepared")).code).toBe(0);
    expect(verify(result("ab", "reboot-needed")).code).toBe(0);
  });

  const remove = () =>
    host.run(
      remoteProgram(remoteScript("remove-host"), { GPUCTL_OWNER: "prod/gpu-1" }, [
        file("/run/gpuctl-removal/prepare-host.sh", '[[ $1 == --remove ]] && echo "removed" >&2'),
      ]),
    );

  test("is taken back by the script that comes along, of which nothing stays", () => {
    expect(remove()).toMatchObject({ code: 0, stderr: "removed\n" });
    expect(host.written()).toEqual([]);
  });

  test("is not taken back from the node that it is by now", () => {
    host.run(`mkdir -p ${directory}; echo prod/gpu-2 >${directory}/owner`);
    expect(remove()).toEqual({ code: 0, stdout: "this box is prod/gpu-2 now: nothing was taken away\n", stderr: "" });
    expect(host.written()).toEqual([`${directory}/owner`]);
    host.run(`echo prod/gpu-1 >${directory}/owner`);
    expect(remove()).toMatchObject({ code: 0, stderr: "removed\n" });
  });

  test("with the real script ends with exit 2 for values that it does not know, and leaves the host as it was", () => {
    const { code, stderr } = host.run(
      remoteProgram(remoteScript("prepare"), { GPUCTL_RESTART: "never" }, [
        file(`${directory}/prepare-host.sh`, hostScript().text),
        file(`${directory}/given-values`, "GPUCTL_WRONG=1\n"),
      ]),
    );
    expect(code).toBe(1);
    expect(stderr).toMatch(/unknown value GPUCTL_WRONG/);
    expect(stderr).toContain("the host is not prepared (2)");
    expect(host.written().filter((path) => path.startsWith("/etc/"))).toEqual([]);
  });
});

describe("looking at a box", () => {
  const preflight = (gpus: string, ports = "", before = "") =>
    host.run(before + remoteProgram(remoteScript("preflight"), { GPUCTL_GPUS: gpus, GPUCTL_PORTS: ports }));
  const system = (name: string, id: string, version: string) =>
    host.run(`rm -f /etc/os-release; printf 'PRETTY_NAME="${name}"\nID=${id}\nVERSION_ID="${version}"\n' >/etc/os-release`);
  const card = 'echo "01:00.0 0302: 10de:1eb8 (rev a1)"';

  beforeEach(() => {
    host.standIn("lspci", card);
    host.standIn("df", 'printf "Filesystem blocks Used Available\\n/dev/vda 1 1 50000\\n"');
    host.standIn("timedatectl", "echo yes");
    host.standIn("ss", "true");
    host.standIn("sshd", "echo passwordauthentication no");
    host.standIn("dpkg", "echo amd64");
    system("Ubuntu 24.04.3 LTS", "ubuntu", "24.04");
    host.run("mkdir -p /run/systemd/system");
  });

  test("finds what it needs, and changes nothing", () => {
    const before = host.written();
    const { code, stdout, stderr } = preflight("1", "8001 8002");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^Ubuntu 24\.04\.3 LTS, kernel \S+, 1 NVIDIA GPUs, 50000 MiB free\n$/);
    expect(host.written()).toEqual(before);
  });

  test("counts cards also where there is no lspci, by the bus itself", () => {
    const bus = (...devices: readonly string[]) =>
      `command() { [[ $* != '-v lspci' ]] && builtin command "$@"; }
      mount -t tmpfs tmpfs /sys/bus/pci/devices; cd /sys/bus/pci/devices
      ${devices.map((each, n) => `mkdir ${n}; printf '%s\n' ${each.split(" ")[0] ?? ""} >${n}/vendor; printf '%s\n' ${each.split(" ")[1] ?? ""} >${n}/class`).join("\n")}
      `;
    const [nvidia, audio, other] = ["0x10de 0x030200", "0x10de 0x040300", "0x1002 0x030000"];
    expect(preflight("2", "", bus(nvidia, audio, other)).stderr).toBe(
      "1 NVIDIA GPUs are on the PCI bus, and 2 are expected: lspci -nn -d 10de:\n",
    );
    expect(preflight("2", "", bus(nvidia, audio, nvidia)).stdout).toContain(", 2 NVIDIA GPUs, ");
  });

  test("knows which systems can be prepared, before anything is made there", () => {
    for (const [name, id, version, code] of [
      ["Ubuntu 20.04.6 LTS", "ubuntu", "20.04", 1],
      ["Ubuntu 22.04.5 LTS", "ubuntu", "22.04", 0],
      ["Ubuntu 26.04 LTS", "ubuntu", "26.04", 0],
      ["Debian GNU/Linux 11 (bullseye)", "debian", "11", 1],
      ["Debian GNU/Linux 12 (bookworm)", "debian", "12", 0],
      ["Debian GNU/Linux 13 (trixie)", "debian", "13", 0],
      ["Fedora Linux 43 (Server Edition)", "fedora", "43", 1],
    ] as const) {
      system(name, id, version);
      const { stderr, ...ran } = preflight("1");
      expect({ name, code: ran.code, named: stderr.startsWith(`${name} is not supported: Ubuntu 22.04`) }).toEqual({
        name,
        code,
        named: code === 1,
      });
    }
    host.standIn("dpkg", "echo riscv64");
    expect(preflight("1").stderr).toMatch(/^Fedora .* on amd64 and arm64$/m);
    system("Debian GNU/Linux 13 (trixie)", "debian", "13");
    expect(preflight("1").stderr).toMatch(/^Debian GNU\/Linux 13 \(trixie\) is not supported: .* on amd64 and arm64\n$/);
    host.standIn("dpkg", "echo arm64");
    expect(preflight("1", "", "rmdir /run/systemd/system; ").stderr).toMatch(/^it was not started by systemd/);
  });

  test("warns of an sshd that takes passwords, which is no reason to stop", () => {
    host.standIn("sshd", "printf 'port 22\\npasswordauthentication yes\\nusepam yes\\n'");
    expect(preflight("1")).toMatchObject({
      code: 0,
      stderr: expect.stringMatching(/^warning: its sshd takes passwords.*\n$/) as string,
    });
  });

  test("names everything that is wrong at once", () => {
    host.standIn("df", 'printf "Filesystem blocks Used Available\\n/dev/vda 1 1 900\\n"');
    host.standIn("timedatectl", "echo no");
    host.standIn("ss", "echo LISTEN 0 128 0.0.0.0:8001");
    const { code, stderr } = preflight("2", "8001");
    expect(code).toBe(1);
    expect(stderr.trim().split("\n")).toEqual([
      expect.stringContaining("1 NVIDIA GPUs are on the PCI bus, and 2 are expected"),
      expect.stringContaining("900 MiB are free"),
      expect.stringContaining("not synchronised"),
      expect.stringContaining("port 8001 is taken"),
    ]);
  });
});

describe("the vSwitch and the volume of a host", () => {
  const unit = file("/etc/systemd/system/gpuctl-vswitch.service", "[Unit]\n");

  test("are units that are started, and an interface that does not exist is named", () => {
    const up = (name: string) => host.run(remoteProgram(remoteScript("vswitch-up"), { GPUCTL_INTERFACE: name }, [unit]));
    expect(up("lo").code).toBe(0);
    expect(host.calls()).toContain("systemctl restart gpuctl-vswitch.service");
    expect(up("enp99s0")).toMatchObject({ code: 1, stderr: expect.stringContaining("no network interface enp99s0") as string });
    const down = (node: string) => host.run(remoteProgram(remoteScript("vswitch-down"), { GPUCTL_OWNER: `prod/${node}` }));
    host.run(`mkdir -p ${directory}; echo prod/gex-1 >${directory}/owner`);
    expect(down("gex-0").code).toBe(0);
    expect(host.written().filter((path) => path.includes("vswitch"))).toEqual([unit.path]);
    expect(down("gex-1").code).toBe(0);
    expect(host.written().filter((path) => path.includes("vswitch"))).toEqual([]);
  });

  test("a volume is mounted once its disk is there", () => {
    const mount = (device: string) => host.run(remoteProgram(remoteScript("mount-volume"), { GPUCTL_DEVICE: device }));
    expect(mount("/run/disk")).toMatchObject({ code: 1, stderr: expect.stringContaining("/run/disk did not appear") as string });
    expect(host.calls().filter((call) => call.startsWith("sleep"))).toHaveLength(60);
    host.standIn("sleep", "mknod /run/disk b 7 0");
    host.standIn("resize2fs", "exit 0");
    expect(mount("/run/disk")).toMatchObject({ code: 0, stdout: "mounted at /srv/gpuctl\n" });
    const calls = host.calls();
    expect(calls).toContain("systemctl enable --quiet --now srv-gpuctl.mount");
    // What is mounted grows without a check of the file system before.
    expect(calls.at(-1)).toBe("resize2fs /run/disk");
    host.standIn("resize2fs", "echo 'no space for group descriptors' >&2; exit 1");
    const { code, stderr } = mount("/run/disk");
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(/^no space .*\nthe file system of \/run\/disk could not be grown/) as string,
    });
  });
});
