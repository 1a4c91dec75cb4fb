import { appendFileSync, chmodSync, existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ExistingAudit } from "../../../../cli/src/adapters/remote-state/existing-audit.js";
import { temporaryDirectories } from "../../../support/temporary.js";
import { World } from "./world.js";

const temporary = temporaryDirectories();
const entry = (action: string, detail = ""): { action: string; release: null; detail: string } => ({
  action,
  release: null,
  detail,
});

describe("the audit on hosts", () => {
  it("tells each entry once, by time, with the hosts that keep it", async () => {
    const hosts = new World(temporary(), ["gpu-1", "gpu-2"]);
    const ada = hosts.person("ada");
    await ada.audit.append(entry("deploy"));
    ada.line.down.add("gpu-1");
    ada.clock.pass(2000);
    await ada.audit.append(entry("good"));
    ada.line.down.clear();
    ada.line.down.add("gpu-2");
    ada.clock.pass(-1000);
    await ada.audit.append(entry("between"));
    expect((await hosts.person("bob").audit.read(10)).map(({ action, hosts: on }) => [action, on.join()])).toEqual([
      ["deploy", "gpu-1,gpu-2"],
      ["between", "gpu-1"],
      ["good", "gpu-2"],
    ]);
    expect((await ada.audit.read(10)).map(({ action }) => action)).toEqual(["deploy", "between"]);
    ada.line.down.add("gpu-1");
    await expect(ada.audit.append(entry("lost"))).rejects.toMatchObject({ exit: "targetUnreachable" });
    await expect(ada.audit.read(1)).rejects.toMatchObject({ exit: "targetUnreachable" });
  });

  it.each(["answer", "input", "before"] as const)("has a line once whose connection was lost: %s", async (loss) => {
    const ada = new World(temporary()).person("ada");
    ada.line.losses.push(loss);
    await ada.audit.append(entry("deploy"));
    expect((await ada.audit.read(10)).map(({ action }) => action)).toEqual(["deploy"]);
  });

  it("cuts a detail that no single write takes, and keeps its characters whole enough to read", async () => {
    const hosts = new World(temporary());
    const ada = hosts.person("ada");
    await ada.audit.append(entry("failed", "☃".repeat(9000)));
    await ada.audit.append(entry("after"));
    const [failed] = await ada.audit.read(2);
    expect(failed?.detail).toMatch(/^☃{500,} \[cut\]$/);
    for (const line of readFileSync(join(hosts.hosts[0]?.root ?? "", "audit.jsonl"), "utf8").split("\n"))
      expect(Buffer.byteLength(line)).toBeLessThan(4096);
  });

  it("is set aside above a size, once, and still read", async () => {
    const hosts = new World(temporary());
    const ada = hosts.person("ada");
    const log = join(hosts.hosts[0]?.root ?? "", "audit.jsonl");
    await ada.audit.append(entry("oldest"));
    const padding = `${JSON.stringify({ at: "2020-01-01T00:00:00Z", author: "x", action: "padding", detail: "y".repeat(1000) })}\n`;
    for (let round = 0; round < 3; round++) {
      ada.clock.pass(1000);
      await ada.audit.append(entry(`before ${round}`));
      appendFileSync(log, padding.repeat(1100));
      ada.clock.pass(1000);
      await ada.audit.append(entry(`after ${round}`));
      expect(statSync(log).size).toBeLessThan(4096);
    }
    const actions = (await ada.audit.read(3000)).map(({ action }) => action).filter((action) => action !== "padding");
    expect(actions).toEqual(["after 1", "before 2", "after 2"]);
  });

  it("takes what was mended on hosts that keep it already, and makes none", async () => {
    const hosts = new World(temporary(), ["gpu-1", "gpu-2"]);
    const ada = hosts.person("ada");
    const audit = new ExistingAudit(ada.states, "ada@lab", ada.clock);
    await audit.append(entry("doctor", "nobody knows"));
    expect(hosts.hosts.map(({ root }) => existsSync(root))).toEqual([false, false]);
    ada.line.down.add("gpu-2");
    await ada.audit.append(entry("deploy"));
    ada.line.down.clear();
    await audit.append(entry("doctor", "gpu-1: hold 3 driver packages"));
    expect((await ada.audit.read(10)).map(({ action, hosts: on }) => [action, on.join()])).toEqual([
      ["deploy", "gpu-1"],
      ["doctor", "gpu-1"],
    ]);
  });

  it("is refused where others can write to it", async () => {
    const hosts = new World(temporary());
    const ada = hosts.person("ada");
    await ada.audit.append(entry("deploy"));
    const log = join(hosts.hosts[0]?.root ?? "", "audit.jsonl");
    chmodSync(log, 0o622);
    await expect(ada.audit.append(entry("good"))).rejects.toMatchObject({ exit: "preflightRefused" });
  });
});
