/** Services that ask for a key: the deploy and the everyday commands work with it, everybody else is turned away. */
import { globSync } from "node:fs";
import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { Sandbox } from "../support/sandbox.js";

let sandbox: Sandbox;
afterEach(async () => {
  await sandbox.close();
});

async function statusWith(key: string): Promise<number> {
  const answer = await fetch(`http://127.0.0.1:${String(sandbox.ports.embedder)}/embed`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
    body: JSON.stringify({ inputs: ["a"] }),
  });
  return answer.status;
}

/** As an operator does without a deploy: the new file is written beside the old one and takes its place. */
async function exchangeKeys(...keys: readonly string[]): Promise<void> {
  const files = globSync(join(sandbox.state, "instances/*.secrets/API_KEYS"));
  expect(files).toHaveLength(1);
  for (const file of files) {
    await writeFile(`${file}.new`, keys.join("\n"), { mode: 0o600 });
    await rename(`${file}.new`, file);
  }
}

test("with API_KEYS the gates pass, a stranger gets 401, bench and health work, and keys change without a restart", async () => {
  sandbox = await Sandbox.create({ services: ["embedder"], soak: "1s" });
  const secrets = "secrets: { API_KEYS: { env: TEST_KEYS } }";
  sandbox.writeConfig({ services: ["embedder"], soak: "1s", options: { embedder: secrets } });
  const env = { TEST_KEYS: "first-key\nsecond-key" };
  await sandbox.result(["deploy"], env);
  expect((await sandbox.post("embedder", "/embed", { inputs: ["a"] })).status).toBe(401);
  expect(await statusWith("second-key")).toBe(200);
  expect(await sandbox.result(["health"])).toMatchObject({ healthy: true });
  await sandbox.result(["bench", "embed", "--duration", "1s", "--warm-up", "500ms", "--concurrency", "2"], env);
  await exchangeKeys("first-key", "third-key");
  await expect.poll(() => statusWith("third-key"), { timeout: 10_000 }).toBe(200);
  expect([await statusWith("second-key"), await statusWith("first-key")]).toEqual([401, 200]);
  const { stdout } = await sandbox.run(["logs", "--lines", "1000"]);
  expect(stdout).toContain("keys-changed");
  expect(stdout).not.toMatch(/first-key|second-key|third-key/);
}, 120_000);
