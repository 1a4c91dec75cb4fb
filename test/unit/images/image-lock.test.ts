import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ModelLock } from "../../../cli/src/adapters/models/model-lock.js";
import { ConfigInvalid } from "../../../cli/src/domain/errors.js";
import type { LockedImage } from "../../../cli/src/domain/images/registry.js";
import { temporaryDirectories } from "../../support/temporary.js";

const temporary = temporaryDirectories();
const hash = "a".repeat(64);
const image: LockedImage = {
  ref: "registry.example.net:5000/acme/gpuctl-services:cpu-aaaaaaaaaaaaaaaa",
  digest: `sha256:${hash}`,
  contents: hash,
};
const model = { id: "acme/tiny", revision: "1.0-abc", manifest: hash, files: { "model.onnx": hash } };

function project(text?: string) {
  const directory = temporary();
  const lock = new ModelLock(join(directory, "gpuctl.yaml"));
  if (text !== undefined) writeFileSync(lock.file, text);
  return { lock, text: () => readFileSync(lock.file, "utf8") };
}

describe("images in the lock", () => {
  it("are pinned beside the models, and each leaves the other as it was", async () => {
    const { lock, text } = project();
    expect(await lock.readImages()).toEqual({});
    await lock.writeImage("services-cuda", image);
    await lock.write({ tiny: model });
    await lock.writeImage("services-cpu", { ...image, contents: "b".repeat(64) });
    expect(await lock.read()).toEqual({ tiny: model });
    expect(JSON.parse(text())).toEqual({
      schemaVersion: 1,
      models: { tiny: model },
      images: { "services-cpu": { ...image, contents: "b".repeat(64) }, "services-cuda": image },
    });
    expect(text().indexOf("services-cpu")).toBeLessThan(text().indexOf("services-cuda"));
    expect(statSync(lock.file).mode & 0o777).toBe(0o644);
  });

  it("are what a release names, by digest", async () => {
    const { lock } = project();
    expect(await lock.pinnedServices("cpu")).toBeNull();
    await lock.writeImage("services-cpu", image);
    expect(await lock.pinnedServices("cpu")).toBe(`registry.example.net:5000/acme/gpuctl-services@sha256:${hash}`);
    expect(await lock.pinnedServices("cuda")).toBeNull();
  });

  it("are none in a lock of before there were any, which stays as it is when models are pinned", async () => {
    const { lock, text } = project(JSON.stringify({ schemaVersion: 1, models: { tiny: model } }));
    expect(await lock.readImages()).toEqual({});
    await lock.write({ tiny: model });
    expect(text()).not.toContain("images");
  });

  it.each<[string, unknown]>([
    ["no table", []],
    ["null", null],
    ["an entry that is none", { "services-cpu": null }],
    ["a digest that is none", { "services-cpu": { ...image, digest: "latest" } }],
    ["no contents", { "services-cpu": { ref: image.ref, digest: image.digest } }],
  ])("that are damaged (%s) are refused, and nothing is written over them", async (_what, images) => {
    const { lock, text } = project(JSON.stringify({ schemaVersion: 1, models: {}, images }));
    const before = text();
    const refused = {
      constructor: ConfigInvalid,
      nextSteps: [expect.stringContaining("git checkout") as string, expect.anything()],
    };
    await expect(lock.readImages()).rejects.toMatchObject(refused);
    await expect(lock.read()).rejects.toMatchObject(refused);
    await expect(lock.writeImage("services-cpu", image)).rejects.toMatchObject(refused);
    expect(text()).toBe(before);
  });
});
