import { createServer } from "node:http";
import { cpSync, readdirSync, statSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { changedWheel } from "../support/faulty-wheel.js";
import { Sandbox } from "../support/sandbox.js";
import { status } from "../support/serving.js";

describe("things that come at the wrong moment", () => {
  let sandbox: Sandbox;

  afterEach(async () => {
    await sandbox.close();
  });

  test("two deploys at once: one works, the other says who holds the lease, one release serves", async () => {
    sandbox = await Sandbox.create({ services: ["embedder"], soak: "1s" });
    await sandbox.result(["deploy"]);
    const first = sandbox.start(["deploy", "--lock-wait", "0s", "--json"], {
      GPUCTL_WHEEL: changedWheel(sandbox.directory, "one"),
    });
    const second = sandbox.start(["deploy", "--lock-wait", "0s", "--json"], {
      GPUCTL_WHEEL: changedWheel(sandbox.directory, "two"),
    });
    const codes = (await Promise.all([first.ended, second.ended])).map((ran) => ran.code);
    expect(codes.toSorted()).toEqual([0, 5]);
    const seen = await status(sandbox);
    expect(seen.release?.state).toBe("good");
    expect(seen.services).toMatchObject([{ traffic: "open", process: { state: "running" } }]);
  }, 120_000);

  test("two deploys at once with patience: both succeed, one after the other", async () => {
    sandbox = await Sandbox.create({ services: ["embedder"], soak: "1s" });
    await sandbox.result(["deploy"]);
    const runs = ["one", "two"].map((mark) =>
      sandbox.start(["deploy", "--lock-wait", "60s", "--json"], { GPUCTL_WHEEL: changedWheel(sandbox.directory, mark) }),
    );
    expect((await Promise.all(runs.map(({ ended }) => ended))).map((ran) => ran.code)).toEqual([0, 0]);
    expect((await status(sandbox)).release?.state).toBe("good");
  }, 180_000);

  test("a port taken by a stranger refuses the deploy before anything starts, and names the port", async () => {
    sandbox = await Sandbox.create({ services: ["embedder"], soak: "1s" });
    const stranger = createServer();
    await new Promise<void>((resolve) => {
      stranger.listen(sandbox.ports.embedder, "127.0.0.1", () => {
        resolve();
      });
    });
    const { code, document } = await sandbox.json(["deploy"]);
    await new Promise((resolve) => stranger.close(resolve));
    expect(code).toBe(5);
    expect(JSON.stringify(document.error)).toContain(String(sandbox.ports.embedder));
    expect((await sandbox.json(["releases"])).document.ok).toBe(true);
    await sandbox.result(["deploy"]);
  }, 120_000);

  test("a corrupted model file refuses the deploy and is named; the running release is not touched", async () => {
    sandbox = await Sandbox.create({ services: ["embedder"], soak: "1s" });
    const shared = process.env["GPUCTL_TEST_MODEL_STORE"] ?? "";
    const store = join(sandbox.directory, "models");
    cpSync(shared, store, { recursive: true });
    const env = { GPUCTL_MODEL_STORE: store };
    await sandbox.result(["deploy"], env);
    const file = readdirSync(store, { recursive: true, encoding: "utf8" }).find(
      (name) => name.includes("MiniLM") && name.endsWith("model.onnx"),
    );
    if (file === undefined) throw new Error("no model file");
    truncateSync(join(store, file), statSync(join(store, file)).size - 1);
    const { code, document } = await sandbox.json(["deploy"], { ...env, GPUCTL_WHEEL: changedWheel(sandbox.directory, "three") });
    expect(code).toBe(5);
    expect(JSON.stringify(document.error)).toMatch(/model\.onnx/);
    expect(JSON.stringify(document.error)).toMatch(/gpuctl models/);
    expect((await sandbox.post("embedder", "/embed", { inputs: ["untouched"] })).status).toBe(200);
  }, 120_000);
});
