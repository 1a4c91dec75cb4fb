import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { rememberedBox, type Endpoint } from "../../../infra/lib/one-box.js";

const first: Endpoint = { host: "203.0.113.20", port: 22, hostKey: "ssh-ed25519 AAAA" };

/** As the provider runs it: what it printed last is in the environment. */
function run(now: Partial<Endpoint>, before?: string) {
  const env = { PATH: process.env["PATH"] ?? "", ...(before === undefined ? {} : { PULUMI_COMMAND_STDOUT: before }) };
  const { status, stdout, stderr } = spawnSync("/bin/sh", ["-c", rememberedBox("gpu-1", { ...first, ...now })], {
    env,
    encoding: "utf8",
  });
  return { status, stdout: stdout.trim(), stderr };
}

const remembered = run({}).stdout;

test("a box is remembered by its address and its key, which may change one by one", () => {
  expect(remembered).toBe("203.0.113.20:22 ssh-ed25519 AAAA");
  for (const now of [{}, { host: "203.0.113.21" }, { port: 2222 }, { hostKey: "ssh-ed25519 BBBB" }])
    expect(run(now, remembered), JSON.stringify(now)).toMatchObject({ status: 0, stderr: "" });
  expect(run({ host: "gpu.example.org" }, remembered).stdout).toBe("gpu.example.org:22 ssh-ed25519 AAAA");
});

test.each([{ host: "203.0.113.21" }, { port: 2222 }])("with another key at another address (%o) it is another box", (other) => {
  const { status, stdout, stderr } = run({ ...other, hostKey: "ssh-ed25519 BBBB" }, remembered);
  expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
  expect(stderr).toMatch(
    /^gpu-1 was the box at 203\.0\.113\.20:22, and would become another one: .*another name; take gpu-1 out/,
  );
});
