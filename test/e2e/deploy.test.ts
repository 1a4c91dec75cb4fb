import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { listeningPorts } from "../../cli/src/adapters/targets/process/listening-ports.js";
import { repository, Sandbox } from "../support/sandbox.js";
import { servingPid, status } from "../support/serving.js";

const tiny = { name: "tiny", path: join(repository, "test/golden/models/tiny-xlmr-embedder") };

describe("a deploy to this machine", () => {
  let sandbox: Sandbox;

  /** A small model of the sandbox's own, so that a test may damage it. */
  beforeEach(async () => {
    sandbox = await Sandbox.create({ services: ["embedder"], soak: "1s" });
    sandbox.env["GPUCTL_MODEL_STORE"] = join(sandbox.directory, "models");
    sandbox.writeConfig({ services: ["embedder", "index"], soak: "1s", model: tiny });
    await sandbox.result(["models", "fetch", "tiny"]);
  }, 120_000);
  afterEach(async () => {
    await sandbox.close();
  });

  const embed = async (): Promise<number> => (await sandbox.post("embedder", "/embed", { inputs: ["hello"] })).status;

  test("brings services up, does nothing the second time, and leaves nothing after destroy", async () => {
    expect((await sandbox.json(["plan", "--exit-code"])).code).toBe(7);
    await sandbox.result(["deploy"]);
    expect(await embed()).toBe(200);
    const { release, services } = await status(sandbox);
    expect(release).toMatchObject({ state: "good" });
    expect(services.map(({ service, traffic }) => [service, traffic])).toEqual([
      ["embedder", "open"],
      ["index", "open"],
    ]);
    expect((await sandbox.json(["plan", "--exit-code"])).code).toBe(0);
    const began = performance.now();
    const again = await sandbox.run(["deploy"]);
    expect([again.code, again.stdout]).toEqual([0, expect.stringMatching(/^Nothing to do/)]);
    expect(performance.now() - began).toBeLessThan(2000);

    // Exactly one document, whatever its length: `result` fails when stdout holds more.
    const logs = (await sandbox.result(["logs", "embedder"])) as { lines: { text: string }[] };
    expect(logs.lines.filter(({ text }) => text.includes("engine-loaded"))).toHaveLength(1);

    const pids = services.map(({ process: running }) => running?.pid ?? 0);
    await sandbox.result(["destroy", "--confirm", "local"]);
    expect(pids.filter((pid) => readdirSync("/proc").includes(pid.toString()))).toEqual([]);
    const ports = (await listeningPorts()).map(({ port }) => port);
    expect([sandbox.ports.embedder, sandbox.ports.index].filter((port) => ports.includes(port))).toEqual([]);
    expect(readdirSync(sandbox.state)).not.toContain("run");

    await sandbox.result(["deploy"]);
    expect(await embed()).toBe(200);
  });

  test("is refused while a stranger holds a port, names the stranger, and touches nothing", async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(sandbox.ports.index, "127.0.0.1", resolve));
    try {
      const { code, document } = await sandbox.json(["deploy"]);
      expect(code).toBe(5);
      expect(JSON.stringify(document.error)).toContain(`pid ${process.pid.toString()}`);
      expect(await sandbox.result(["releases"])).toMatchObject({ releases: [] });
    } finally {
      await new Promise((resolve) => server.close(resolve));
    }
    await sandbox.result(["deploy"]);
  });

  test("is refused with a damaged model file, which is named and repaired, while the old release serves", async () => {
    await sandbox.result(["deploy"]);
    const pid = await servingPid(sandbox, "embedder");
    const [folder = ""] = readdirSync(join(sandbox.directory, "models", "local--tiny-xlmr-embedder"));
    const file = join(sandbox.directory, "models", "local--tiny-xlmr-embedder", folder, "model.onnx");
    const bytes = readFileSync(file);
    const middle = Math.floor(bytes.length / 2);
    bytes[middle] = (bytes[middle] ?? 0) ^ 1;
    writeFileSync(file, bytes);

    sandbox.writeConfig({
      services: ["embedder", "index"],
      soak: "1s",
      model: tiny,
      options: { embedder: 'env: { X_TEST: "1" }' },
    });
    const refused = await sandbox.json(["deploy"]);
    expect(refused.code).toBe(5);
    expect(JSON.stringify(refused.document.error)).toContain("model.onnx");
    expect(refused.document.error?.nextSteps?.join()).toContain("gpuctl models");
    expect(await servingPid(sandbox, "embedder")).toBe(pid);
    expect(await embed()).toBe(200);

    const verified = await sandbox.json(["models", "verify", "tiny"]);
    expect(verified.code).toBe(1);
    expect(verified.document.error?.because).toMatch(
      /model\.onnx: its sha256 is [0-9a-f]{64}, and the manifest says [0-9a-f]{64}/,
    );
    expect(await sandbox.result(["models", "fetch", "tiny"])).toMatchObject({ models: [{ name: "tiny", outcome: "repaired" }] });
    await sandbox.result(["models", "verify", "tiny"]);
    await sandbox.result(["deploy"]);
    expect(await embed()).toBe(200);
  });

  test("to an address that others can reach is refused without a key", async () => {
    sandbox.writeConfig({ services: ["embedder", "index"], soak: "1s", model: tiny, extra: "    bind: 0.0.0.0\n" });
    const { code, document } = await sandbox.json(["deploy"]);
    expect(code).toBe(5);
    expect(JSON.stringify(document.error)).toContain("API_KEYS");
  });
});
