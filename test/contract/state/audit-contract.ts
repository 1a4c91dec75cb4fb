import { appendFileSync, statSync } from "node:fs";
import { expect, it } from "vitest";
import type { StateWorld } from "./state-world.js";

/** What every audit promises. */
export function describeAudit(makeWorld: () => StateWorld): void {
  it("is empty before anything happened", async () => {
    expect(await makeWorld().party(1).audit.read(50)).toEqual([]);
  });

  it("remembers who did what, newest last, and gives the last few", async () => {
    const world = makeWorld();
    for (const action of ["deploy", "good", "rollback"]) {
      await world.party(1).audit.append({ action, release: "r1-00000001", detail: `line\nof ${action} 'ü' \\ $(id) %s` });
      world.clock.pass(1000);
    }
    const reader = world.party(2).audit;
    expect((await reader.read(2)).map(({ action }) => action)).toEqual(["good", "rollback"]);
    expect((await reader.read(1))[0]).toMatchObject({
      author: "p1@here",
      release: "r1-00000001",
      detail: "line\nof rollback 'ü' \\ $(id) %s",
      at: expect.stringMatching(/Z$/) as unknown,
    });
    expect(await reader.read(0)).toEqual([]);
  });

  it("loses nothing when many write at once, and is private", async () => {
    const world = makeWorld();
    const writers = Array.from({ length: 12 }, (_, i) => i + 1);
    await Promise.all(writers.map((pid) => world.party(pid).audit.append({ action: `a${pid}`, release: null, detail: "" })));
    expect(new Set((await world.party(1).audit.read(100)).map(({ action }) => action)).size).toBe(12);
    for (const file of world.files("audit.jsonl")) expect(statSync(file).mode & 0o777).toBe(0o600);
  });

  it("does not let a line that was cut off swallow the next one", async () => {
    const world = makeWorld();
    const { audit } = world.party(1);
    await audit.append({ action: "one", release: null, detail: "" });
    for (const file of world.files("audit.jsonl")) appendFileSync(file, '{"at":"2026-');
    world.clock.pass(1000);
    await audit.append({ action: "two", release: null, detail: "" });
    for (const file of world.files("audit.jsonl")) appendFileSync(file, "null\n[1]\n{}\n\0\xff\n");
    expect((await audit.read(10)).map(({ action }) => action)).toEqual(["one", "two"]);
  });
}
