/**
 * Two commands on one index at once, and a restore that is killed: the second one is refused with the holder's name, nothing is
 * half done, and what serves afterwards is one index as a whole.
 */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Sandbox } from "../support/sandbox.js";
import { until } from "../support/until.js";

let sandbox: Sandbox;
let backup: string;
/** Items of the backup, and of the index before each restore. */
const few = 20;
const many = 1500;

beforeAll(async () => {
  sandbox = await Sandbox.create({ services: ["embedder", "index"], soak: "1s" });
  await sandbox.result(["deploy"]);
  await addUpTo(few);
  backup = join(sandbox.directory, "backup");
  await sandbox.result(["index", "backup", "--to", backup]);
}, 180_000);

afterAll(() => sandbox.close());

/** Items with vectors of their own: no embedder is asked, so that many take a moment. */
async function addUpTo(count: number): Promise<void> {
  const items = Array.from({ length: count }, (_, id) => ({
    id,
    vector: Array.from({ length: 384 }, (__, place) => Math.sin((id + 1) * (place + 1))),
  }));
  const answer = await fetch(`http://127.0.0.1:${String(sandbox.ports.index)}/api/v1/vector-store/add`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ items, upsert: true }),
  });
  expect(answer.status, await answer.text()).toBe(200);
}

const items = async (): Promise<number> => ((await sandbox.result(["index", "stats"])) as { items: number }).items;

const restore = (): string[] => ["index", "restore", "--from", backup, "--confirm", "local"];

/** Returns once the index of the environment is stopped. */
const stopped = (): Promise<void> =>
  until(async () => (await sandbox.json(["index", "stats"])).code !== 0, "the restore stopped the index");

describe("two commands on one index at once", () => {
  it("names the restore that is at work to whoever needs the index meanwhile", async () => {
    await addUpTo(many);
    const first = sandbox.start([...restore(), "--json"]);
    await stopped();
    first.child.kill("SIGSTOP");
    const [second, compact] = [await sandbox.json(restore()), await sandbox.json(["index", "compact"])];
    first.child.kill("SIGCONT");
    for (const { code, document } of [second, compact]) {
      expect(code).toBe(5);
      expect(document.error?.because).toContain("`gpuctl index restore`");
    }
    expect((await first.ended).code).toBe(0);
    expect(await items()).toBe(few);
  });

  it("serves one index as a whole after a restore was killed", async () => {
    await addUpTo(many);
    const killed = sandbox.start(restore());
    await stopped();
    killed.child.kill("SIGKILL");
    await killed.ended;
    await sandbox.result(["deploy"]);
    expect([few, many]).toContain(await items());
    expect(await sandbox.result(["index", "verify"])).toMatchObject({ ok: true });
  });
});
