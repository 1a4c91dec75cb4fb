import { Config } from "@oclif/core/config";
import { describe, expect, it } from "vitest";
import GpuctlHelp from "../../cli/src/help.js";
import { packageRoot } from "../support/run-command.js";

const config = await Config.load({ root: packageRoot, devPlugins: false, userPlugins: false });

/** What people read is reviewed like code. After a wanted change: `vitest run --project unit test/golden/command-help.test.ts -u`. */
describe("the help of", () => {
  it.each(config.commandIDs.map((id) => id.replaceAll(":", " ")).sort())("gpuctl %s", async (name) => {
    const help = await new GpuctlHelp(config).text(name.split(" "));
    await expect(help).toMatchFileSnapshot(`help/${name.replaceAll(" ", "-")}.txt`);
  });

  it("each command shows examples before flags", async () => {
    for (const id of config.commandIDs) {
      const help = await new GpuctlHelp(config).text(id.split(":"));
      expect(help.indexOf("\nEXAMPLES"), id).toBeGreaterThan(0);
      expect(help.indexOf("\nEXAMPLES"), id).toBeLessThan(help.indexOf("\nGLOBAL FLAGS"));
    }
  });
});
