import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { cloudInit, largestUserData, userDataSize } from "../../../infra/lib/cloud-init.js";
import { k3sAgentConfig } from "../../../infra/lib/k3s.js";
import { makeOneTimeKey, readHostKey, readOneTimeKey } from "../../../infra/lib/one-time-key.js";
import { remoteProgram, sha256 } from "../../../infra/lib/remote-program.js";
import { stackSchema, type K3sCluster } from "../../../infra/lib/stack-schema.js";
import { timeSlicing } from "../../../infra/lib/time-slicing.js";
import { mountUnit } from "../../../infra/lib/volume-mount.js";
import { vswitchUnit } from "../../../infra/lib/vswitch.js";
import { hostScript } from "../../../infra/scripts.js";
import { exampleConfig } from "../../support/infra/stack-under-mocks.js";
import { exampleUserData, exampleValues } from "../../support/infra/user-data.js";

const golden = (name: string) => join(import.meta.dirname, name);

describe("what a host is given", () => {
  it("as user data is what a person checked", async () => {
    const text = exampleUserData().replace(/(encoding: gz\+b64\n +content: )\S+/, "$1<prepare-host.sh>");
    await expect(text).toMatchFileSnapshot(golden("user-data.yaml"));
  });

  it("as the agent's configuration, VLAN, mount and device plugin is what a person checked", async () => {
    const config = { project: "shop", cluster: exampleConfig("k3s-gpu-pool")["gpuctl:cluster"] };
    const cluster = stackSchema.parse(config).cluster as K3sCluster;
    const link = { id: 4000, interface: "enp5s0", address: "10.20.2.10", subnet: "10.20.2.0/24", range: "10.20.0.0/16" };
    const parts = {
      "/etc/rancher/k3s/config.yaml": k3sAgentConfig(cluster, { name: "gpu-1", address: "10.0.0.5", gpu: true, dedicated: true }),
      "gpuctl-vswitch.service": vswitchUnit(link),
      "srv-gpuctl.mount": mountUnit("/dev/disk/by-id/scsi-0HC_Volume_7"),
      "device plugin": timeSlicing(3),
      "device plugin, one pod a card": timeSlicing(1),
    };
    const text = Object.entries(parts).map(([name, content]) => `==> ${name}\n${content}`);
    await expect(text.join("\n")).toMatchFileSnapshot(golden("host-files.txt"));
  });
});

describe("user data", () => {
  it("carries the preparation script unchanged, and stays far from what Hetzner takes at most", () => {
    const text = exampleUserData();
    const { write_files: files } = parse(text) as { write_files: { path: string; content: string }[] };
    expect(gunzipSync(Buffer.from(files[0]!.content, "base64")).toString()).toBe(hostScript().text);
    expect(Buffer.byteLength(text)).toBeLessThan(largestUserData);
  });

  it("is never larger than what was reckoned with before its one-time key was made, and hardly smaller", () => {
    const given = { script: hostScript(), values: exampleValues, operators: [] };
    for (let made = 0; made < 3; made++) {
      const firstKey = readOneTimeKey(execFileSync("sh", ["-c", makeOneTimeKey]).toString());
      const left = userDataSize(given) - Buffer.byteLength(cloudInit({ ...given, firstKey }));
      expect(left).toBeGreaterThanOrEqual(0);
      expect(left).toBeLessThan(256);
    }
  });

  it("that would be too large is refused before it is sent", () => {
    const noise = Array.from({ length: 4000 }, (_, index) => sha256(String(index))).join("");
    const firstKey = { privateKey: "", publicKey: "" };
    expect(() => cloudInit({ script: { text: noise, sha256: "" }, values: exampleValues, firstKey, operators: [] })).toThrow(/32768/);
  });
});

describe("a program for a host", () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "gpuctl-remote-"));
  });
  afterAll(() => {
    rmSync(directory, { recursive: true });
  });
  const run = (input: string) => execFileSync("bash", ["-s"], { input, stdio: ["pipe", "pipe", "pipe"] }).toString();

  it("brings its files whole, with their modes, and leaves nothing beside them", () => {
    const content = "#!/bin/sh\n# 'quotes', $HOME, `x`, \\n and an umlaut: ü\n";
    const files = [
      { path: join(directory, "a/secret's file"), mode: "0600" as const, content },
      { path: join(directory, "a/plain"), mode: "0755" as const, content: "no newline at its end" },
    ];
    run(remoteProgram("main() { :; }", {}, files));
    expect(readFileSync(files[0]!.path, "utf8")).toBe(content);
    expect(readFileSync(files[1]!.path, "utf8")).toBe("no newline at its end\n");
    expect(files.map(({ path }) => (statSync(path).mode & 0o777).toString(8))).toEqual(["600", "755"]);
    expect(readdirSync(join(directory, "a")).sort()).toEqual(["plain", "secret's file"]);
  });

  it("that was cut off anywhere on its way does nothing at all", () => {
    const path = join(directory, "cut");
    const program = remoteProgram(`main() { touch '${path}.done'; }`, {}, [{ path, mode: "0644", content: "x\n" }]);
    for (let length = 0; length < program.length - 1; length += 7) {
      try {
        run(program.slice(0, length));
      } catch {
        // A syntax error, as it should be.
      }
    }
    expect(readdirSync(directory).filter((name) => name.startsWith("cut"))).toEqual([]);
    run(program);
    expect(readdirSync(directory).filter((name) => name.startsWith("cut"))).toEqual(["cut", "cut.done"]);
  });

  it("fails when its script does", () => {
    expect(() => run(remoteProgram("main() { return 3; }", {}))).toThrow(/Command failed/);
  });
});

describe("the one-time key of a new server", () => {
  it("is made by the machine's own ssh-keygen, which leaves nothing behind", () => {
    const before = readdirSync(tmpdir());
    const { privateKey, publicKey } = readOneTimeKey(execFileSync("/bin/sh", ["-c", makeOneTimeKey]).toString());
    expect(privateKey).toMatch(/^-----BEGIN OPENSSH PRIVATE KEY-----\n[^]*-----END OPENSSH PRIVATE KEY-----\n$/);
    expect(publicKey).toMatch(/^ecdsa-sha2-nistp256 AAAA\S+$/);
    expect(readdirSync(tmpdir()).filter((name) => name.startsWith("tmp.") && !before.includes(name))).toEqual([]);
  });

  it("and the host's own are refused when they are something else", () => {
    expect(() => readOneTimeKey("sh: ssh-keygen: not found")).toThrow(/OpenSSH/);
    expect(() => readHostKey("ssh-rsa AAAA\n")).toThrow(/Ed25519/);
    expect(readHostKey("ssh-ed25519 AAAA\n")).toBe("ssh-ed25519 AAAA");
  });
});
