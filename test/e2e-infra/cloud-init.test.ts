/** What cloud-init itself says of the user data: its own program, from Debian's package. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { packageRoot } from "../support/run-command.js";
import { exampleUserData } from "../support/infra/user-data.js";

describe("user data of a server", () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "gpuctl-user-data-"));
  });
  afterAll(() => {
    rmSync(directory, { recursive: true });
  });

  const validate = (text: string) => {
    const file = join(directory, "user-data");
    writeFileSync(file, text);
    const { status, stdout, stderr } = spawnSync("cloud-init", ["schema", "--config-file", file], { encoding: "utf8" });
    return { status, said: stdout + stderr };
  };

  test("is valid to cloud-init's own schema", () => {
    const { status, said } = validate(exampleUserData());
    expect(said).toContain("Valid");
    expect(status).toBe(0);
  });

  test("would be refused with a mistyped key, so that the check is one", () => {
    const { status, said } = validate(exampleUserData().replace("ecdsa_private", "ecdsa_privat"));
    expect(status).not.toBe(0);
    expect(said).toContain("ssh_keys");
  });
});

describe("scripts that run on hosts", () => {
  const folder = join(packageRoot, "infra/remote");
  const names = readdirSync(folder);

  test.each(names)("%s is clean to shellcheck", (name) => {
    expect(execFileSync("shellcheck", ["--severity=info", join(folder, name)], { encoding: "utf8" })).toBe("");
  });

  test("define the one function that the program around them calls, and do nothing before", () => {
    for (const name of names) {
      const lines = readFileSync(join(folder, name), "utf8").split("\n");
      const outside = lines.filter((line) => /^[^\s#}]/.test(line) && !/^\w+\(\) \{/.test(line));
      expect({ name, outside }).toEqual({ name, outside: [] });
      expect(lines.filter((line) => line === "main() {")).toHaveLength(1);
    }
  });
});
