import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { packageRoot } from "../support/run-command.js";

/** What a build of the commands as they are now would write; oclif loads them by itself, so not inside the test runner. */
const script = `
  const { currentManifest, helpFor } = await import("./scripts/build/manifest.mjs");
  const manifest = await currentManifest();
  process.stdout.write(JSON.stringify({ manifest, help: helpFor(manifest) }));
`;

describe("what the build renders beforehand", () => {
  const { manifest, help } = JSON.parse(
    execFileSync(process.execPath, ["--input-type=module", "-e", script], { cwd: packageRoot, encoding: "utf8", maxBuffer: 2 ** 26 }),
  ) as { manifest: { commands: Record<string, { summary?: string; examples?: string[] }> }; help: string };

  it("is current: dist/help.txt", () => {
    expect(readFileSync(join(packageRoot, "dist/help.txt"), "utf8")).toBe(help);
  });

  it("is current: oclif.manifest.json", () => {
    expect(JSON.parse(readFileSync(join(packageRoot, "oclif.manifest.json"), "utf8"))).toEqual(manifest);
  });

  it("fits a terminal of 120 columns and leads with what to type first", () => {
    const lines = help.split("\n");
    expect(lines.filter((line) => line.length > 120)).toEqual([]);
    expect(lines.indexOf("Start here")).toBeLessThan(5);
  });

  it("knows a summary and two examples of every command", () => {
    const poor = Object.entries(manifest.commands).filter(([, command]) => !command.summary || (command.examples?.length ?? 0) < 2);
    expect(poor.map(([id]) => id)).toEqual([]);
  });
});
