/** A host that is prepared as the Pulumi program does it: the very programs that it sends, over a real sshd, on a bare host. */
import { chmodSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { givenValues, hostDirectory } from "../../infra/lib/cloud-init.js";
import { valuesText, type HostValues } from "../../cli/src/domain/host/values.js";
import { remoteProgram } from "../../infra/lib/remote-program.js";
import { hostScript, remoteScript } from "../../infra/scripts.js";
import { BareHost } from "../support/host-bed/bare-host.js";

const wanted: HostValues = {
  gpu: "require",
  deployUser: "gpuctl",
  authorizedKeys: ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2ZkyTyZ0Hh0vTzkaT5cGxNoTtpDDlYvQSBKfYgfbBd it\'s "me" @desk'],
  servicePorts: [8001, 8002],
  appAddresses: ["10.0.0.0/8"],
  sshAddresses: ["0.0.0.0/0"],
  reboot: false,
  revision: "7",
  repositories: {
    docker: "file:///srv/mirror/docker",
    toolkit: "file:///srv/mirror/toolkit",
    driver: "file:///srv/mirror/driver",
  },
};

describe("a bare host with a GPU", () => {
  let box: BareHost;
  const send = (program: string) => box.ssh("bash -s", { input: program, timeoutMs: 170_000 });
  const prepare = (values: HostValues, restart: "allow" | "never" = "never") =>
    send(
      remoteProgram(remoteScript("prepare"), { GPUCTL_RESTART: restart }, [
        { path: `${hostDirectory}/prepare-host.sh`, mode: "0755", content: hostScript().text },
        { path: givenValues, mode: "0600", content: valuesText(values) },
      ]),
    );
  const verify = () => send(remoteProgram(remoteScript("verify"), { GPUCTL_SCRIPT: hostScript().sha256 }));

  beforeAll(async () => {
    box = await BareHost.start();
    await box.fresh();
  }, 900_000);
  afterAll(() => box.stop());

  test("is prepared by what the program sends, and says so for this script and this revision", async () => {
    const ran = await prepare(wanted);
    expect(ran, ran.stderr).toMatchObject({ code: 0, stdout: "prepared\n" });
    const said = await verify();
    expect(said, said.stderr).toMatchObject({ code: 0, stderr: "" });
    expect(JSON.parse(said.stdout)).toMatchObject({
      state: "prepared",
      revision: "7",
      script: hostScript().sha256,
      gpus: [{ name: "Tesla T4", memory: 15360 }],
    });
    expect(box.read("home/gpuctl/.ssh/authorized_keys")).toContain(wanted.authorizedKeys[0]);
  });

  test("is left as it is by a second one", async () => {
    const { code, stderr } = await prepare(wanted);
    expect(code).toBe(0);
    expect(
      stderr.split("\n").filter((line) => line.includes('"event":"end","result":"done"') && !line.includes('"step":"verify"')),
    ).toEqual([]);
  });

  test("is given back: what was made there is gone, with the account", async () => {
    const script = { path: "/run/gpuctl-removal/prepare-host.sh", mode: "0755" as const, content: hostScript().text };
    const ran = await send(remoteProgram(remoteScript("remove-host"), {}, [script]));
    expect(ran, ran.stderr).toMatchObject({ code: 0 });
    expect(
      (await box.ssh("id gpuctl; ls /var/lib/gpuctl/host /etc/systemd/system/gpuctl-host.service /run/gpuctl-removal")).stdout,
    ).toBe("");
    expect((await box.ssh("ufw status; iptables -S DOCKER-USER")).stdout).not.toMatch(/gpuctl/);
  });

  test("that refuses is told why, and nothing follows", async () => {
    await box.fresh({ gpus: 0 });
    const { code, stderr } = await prepare(wanted);
    expect(code).toBe(1);
    expect(stderr).toContain("the host is not prepared (3)");
    expect(stderr).toContain("there is no NVIDIA GPU on the PCI bus");
    const said = await verify();
    expect(said).toMatchObject({ code: 1, stdout: "" });
    expect(said.stderr).toContain('"state":"refused"');
  });

  test("is restarted where that is allowed, after its sshd has stopped taking connections", async () => {
    await box.fresh({ kernel: "6.8.0-85-generic" });
    box.write("usr/local/sbin/systemd-run", "#!/bin/bash\n[[ $* == *--on-active=3* ]] && systemctl reboot\nexit 0\n");
    chmodSync(join(box.host.root, "usr/local/sbin/systemd-run"), 0o755);
    const refused = await prepare(wanted);
    expect(refused, refused.stdout).toMatchObject({ code: 1 });
    expect(refused.stderr).toContain("Next: restart it, then pulumi up");
    box.write("etc/stand-in/serving", "shop-embedder-a\n");
    const serving = await prepare(wanted, "allow");
    expect(serving, serving.stdout).toMatchObject({ code: 1 });
    expect(serving.stderr).toContain("releases serve on it: shop-embedder-a. Next: ");
    await box.ssh("rm /etc/stand-in/serving");
    expect(await prepare(wanted, "allow")).toMatchObject({ code: 0, stdout: "restarting\n" });
    await box.restartAsAsked("6.8.0-90-generic");
    const said = await verify();
    expect(said, said.stderr).toMatchObject({ code: 0 });
    expect(JSON.parse(said.stdout)).toMatchObject({ state: "prepared", kernel: "6.8.0-90-generic" });
  });
});
