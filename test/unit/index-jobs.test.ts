import { describe, expect, it } from "vitest";
import { indexCompact, indexRemove, indexStats } from "../../cli/src/app/index-upkeep.js";
import { ms } from "../../cli/src/domain/units.js";
import { Environment } from "../fakes/environment.js";
import { failureOf } from "../support/lifecycle.js";

describe("an index that does not run", () => {
  it("is started by a deploy, when nobody is at work", async () => {
    const { ctx } = new Environment().cli();
    const refused = await failureOf(indexStats(ctx));
    expect(refused.nextSteps).toContain("gpuctl deploy index");
  });

  it("is waited for while another command changes the environment, which is named", async () => {
    const environment = new Environment();
    await environment.leases.of(() => true).acquire("index restore", ms(0), new AbortController().signal);
    const refused = await failureOf(indexCompact(environment.cli().ctx));
    expect(refused.because).toMatch(/`gpuctl index restore` \(pid \d+/);
    expect(refused.nextSteps).not.toContain("gpuctl deploy index");
  });
});

describe("removing a namespace", () => {
  it("wants its name twice, and says what to type", async () => {
    const { ctx } = new Environment().cli();
    for (const confirm of [undefined, "docs", "local"]) {
      const refused = await failureOf(indexRemove(ctx, { namespace: "docs~undone", confirm }));
      expect(refused.exit).toBe("usage");
      expect(refused.nextSteps).toContain("gpuctl index remove docs~undone --confirm docs~undone");
    }
  });
});
