/** Services that ask for a key: the deploy and the everyday commands work with it, everybody else is turned away. */
import { afterEach, expect, test } from "vitest";
import { Sandbox } from "../support/sandbox.js";

let sandbox: Sandbox;
afterEach(async () => {
  await sandbox.close();
});

test("with API_KEYS the gates pass, a stranger gets 401, and bench and health work", async () => {
  sandbox = await Sandbox.create({ services: ["embedder"], soak: "1s" });
  const secrets = "secrets: { API_KEYS: { env: TEST_KEYS } }";
  sandbox.writeConfig({ services: ["embedder"], soak: "1s", options: { embedder: secrets } });
  const env = { TEST_KEYS: "first-key\nsecond-key" };
  await sandbox.result(["deploy"], env);
  expect((await sandbox.post("embedder", "/embed", { inputs: ["a"] })).status).toBe(401);
  const answer = await fetch(`http://127.0.0.1:${String(sandbox.ports.embedder)}/embed`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: "Bearer second-key" },
    body: JSON.stringify({ inputs: ["a"] }),
  });
  expect(answer.status).toBe(200);
  expect(await sandbox.result(["health"])).toMatchObject({ healthy: true });
  await sandbox.result(["bench", "embed", "--duration", "1s", "--warm-up", "500ms", "--concurrency", "2"], env);
  const { stdout } = await sandbox.run(["logs", "--lines", "1000"]);
  expect(stdout).not.toMatch(/first-key|second-key/);
}, 120_000);
