import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { InstanceFiles } from "../../../../cli/src/adapters/targets/process/instance-files.js";
import { launchDocument } from "../../../../cli/src/adapters/targets/process/launch-document.js";
import { StateLayout } from "../../../../cli/src/adapters/targets/process/state-layout.js";
import { ensurePrivateDirectory } from "../../../../cli/src/adapters/state/state-directory.js";
import { currentUid } from "../../../../cli/src/adapters/state/directories.js";
import { fingerprintOf } from "../../../../cli/src/domain/fingerprint.js";
import type { InstanceSpec } from "../../../../cli/src/ports.js";
import { specFor } from "../../../support/records.js";
import { temporaryDirectories } from "../../../support/temporary.js";

const temporary = temporaryDirectories();
const layoutOf = (state: string): StateLayout => new StateLayout({ state, run: `${state}/run`, cache: "/c", models: "/m" });
const instance = (spec = specFor()): InstanceSpec => ({
  id: `${spec.service}-r3-9f3ab2c1-a`,
  service: spec.service,
  release: "r3-9f3ab2c1",
  slot: "a",
  spec,
});
const placement = (layout: StateLayout, secretNames: readonly string[] = []) => ({
  layout,
  python: "/c/python/x-cp311",
  modelDirectory: "/m/tiny/1",
  fallbackDirectory: null,
  secretNames,
});

describe("a launch document", () => {
  it("holds everything the keeper needs, as docs/architecture.md writes it", () => {
    const spec = specFor({ env: { GPUCTL_DEVICE: "cpu", GPUCTL_MAX_BATCH_TOKENS: "4096" } });
    expect(launchDocument(instance(spec), placement(layoutOf("/s")))).toEqual({
      schemaVersion: 1,
      id: "embedder-r3-9f3ab2c1-a",
      service: "embedder",
      release: "r3-9f3ab2c1",
      slot: "a",
      fingerprint: fingerprintOf(spec),
      argv: ["/c/python/x-cp311/bin/python", "-m", "gpuctl_serving.embedder"],
      env: {
        GPUCTL_DEVICE: "cpu",
        GPUCTL_MAX_BATCH_TOKENS: "4096",
        PYTHONPATH: `/s/wheels/${"a".repeat(64)}.whl`,
        GPUCTL_MODEL_DIR: "/m/tiny/1",
      },
      listen: { host: "127.0.0.1", port: 8001 },
      private: "/s/run/embedder-r3-9f3ab2c1-a.http",
      control: "/s/run/embedder-r3-9f3ab2c1-a.ctl",
      log: "/s/logs/embedder-r3-9f3ab2c1-a.log",
    });
  });

  it("says where the smaller model is that answers when the main one cannot", () => {
    const document = launchDocument(instance(specFor({})), { ...placement(layoutOf("/s")), fallbackDirectory: "/m/small/1" });
    expect(document.env["GPUCTL_FALLBACK_MODEL_DIR"]).toBe("/m/small/1");
  });

  it("does not let settings replace what the record pins", () => {
    const spec = specFor({ env: { PYTHONPATH: "/evil", GPUCTL_MODEL_DIR: "/other" } });
    expect(launchDocument(instance(spec), placement(layoutOf("/s"))).env).toMatchObject({
      GPUCTL_MODEL_DIR: "/m/tiny/1",
      PYTHONPATH: expect.stringMatching(/\.whl$/) as unknown,
    });
  });

  it("tells an index where its data is", () => {
    const spec = specFor({ service: "index", env: { GPUCTL_EMBEDDER_URL: "http://127.0.0.1:8001" } });
    const document = launchDocument(instance(spec), { ...placement(layoutOf("/s")), modelDirectory: null });
    expect(document.env).toMatchObject({ GPUCTL_INDEX_DIR: "/s/index", GPUCTL_EMBEDDER_URL: "http://127.0.0.1:8001" });
    expect(document.env).not.toHaveProperty("GPUCTL_MODEL_DIR");
  });

  it("never holds a secret: those are files that only this user can read", async () => {
    const state = temporary();
    const layout = layoutOf(state);
    await ensurePrivateDirectory(layout.instances, currentUid());
    const files = new InstanceFiles(layout);
    const document = launchDocument(instance(), placement(layout, ["API_KEYS", "TOKEN"]));
    await files.write(document, { API_KEYS: "k1\nk2", TOKEN: "t" });
    const directory = layout.secretsOf(document.id);
    expect(document.env).toMatchObject({ GPUCTL_SECRETS_DIR: directory, GPUCTL_API_KEYS_FILE: join(directory, "API_KEYS") });
    expect(readFileSync(join(directory, "API_KEYS"), "utf8")).toBe("k1\nk2");
    expect(statSync(directory).mode & 0o777).toBe(0o700);
    for (const name of readdirSync(directory)) expect(statSync(join(directory, name)).mode & 0o777).toBe(0o600);
    const text = readFileSync(layout.launchDocument(document.id), "utf8");
    expect(text).not.toContain("k1");
    expect(statSync(layout.launchDocument(document.id)).mode & 0o777).toBe(0o600);
    expect(await files.list()).toEqual([document]);
    await files.write(document, {});
    expect(readdirSync(layout.instances)).toEqual([`${document.id}.json`]);
    await files.remove(document.id);
    expect(readdirSync(layout.instances)).toEqual([]);
  });

  it("takes no secret whose name would leave its directory", async () => {
    const layout = layoutOf(temporary());
    await ensurePrivateDirectory(layout.instances, currentUid());
    const document = launchDocument(instance(), placement(layout, ["../x"]));
    await expect(new InstanceFiles(layout).write(document, { "../x": "v" })).rejects.toThrow(/cannot be the name of a secret/);
    expect(readdirSync(layout.instances)).toEqual([]);
  });
});
