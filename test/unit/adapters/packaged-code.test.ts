import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { PackageCodeSource } from "../../../cli/src/adapters/code/packaged-code.js";
import { ConfigInvalid, Failed } from "../../../cli/src/domain/errors.js";
import { temporaryDirectories } from "../../support/temporary.js";

const temporary = temporaryDirectories();
const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");
const file = "gpuctl_serving-0.1.0-py3-none-any.whl";

function installed(said = sha256("wheel")): string {
  const root = temporary();
  mkdirSync(join(root, "dist/python"), { recursive: true });
  mkdirSync(join(root, "compose/services/locks"), { recursive: true });
  writeFileSync(join(root, "compose/services/locks/runtime.txt"), "numpy==2.4");
  writeFileSync(join(root, "dist/python", file), "wheel");
  writeFileSync(join(root, "dist/python/wheel.json"), JSON.stringify({ file, sha256: said, version: "0.1.0" }));
  return root;
}

describe("the code that a gpuctl deploys", () => {
  it("is the wheel and the lock of its package", async () => {
    const root = installed();
    expect(await new PackageCodeSource(root, {}).current()).toEqual({
      wheel: sha256("wheel"),
      file,
      version: "0.1.0",
      lock: sha256("numpy==2.4"),
      path: join(root, "dist/python", file),
      lockPath: join(root, "compose/services/locks/runtime.txt"),
    });
  });

  it("is another wheel when GPUCTL_WHEEL names one", async () => {
    const other = join(temporary(), "gpuctl_serving-0.2.0+mine-py3-none-any.whl");
    writeFileSync(other, "changed");
    const code = await new PackageCodeSource(installed(), { GPUCTL_WHEEL: other }).current();
    expect(code).toMatchObject({ wheel: sha256("changed"), version: "0.2.0+mine", path: other, lock: sha256("numpy==2.4") });
  });

  it("is refused when the package is damaged", async () => {
    await expect(new PackageCodeSource(installed("0".repeat(64)), {}).current()).rejects.toThrow(/damaged/);
  });

  it("is missing in a clone that was not built, and the error says how to build it", async () => {
    const root = temporary();
    mkdirSync(join(root, "compose/services/locks"), { recursive: true });
    writeFileSync(join(root, "compose/services/locks/runtime.txt"), "");
    const failure = new PackageCodeSource(root, {}).current();
    await expect(failure).rejects.toBeInstanceOf(Failed);
    await expect(failure).rejects.toMatchObject({ nextSteps: ["in a clone: npm run build", expect.any(String)] as unknown[] });
  });

  it("is an invalid configuration when GPUCTL_WHEEL names no file", async () => {
    await expect(new PackageCodeSource(installed(), { GPUCTL_WHEEL: "/nowhere/x.whl" }).current()).rejects.toBeInstanceOf(
      ConfigInvalid,
    );
  });
});
