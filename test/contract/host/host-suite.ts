import { describe } from "vitest";
import { describeCommands } from "./command-contract.js";
import { describeConnection, describeLine } from "./connection-contract.js";
import { describeFiles } from "./file-contract.js";
import type { HostWorld } from "./host-world.js";

/** What every way to a host promises to those who use it. */
export function describeHost(way: string, kind: "local" | "remote", makeWorld: () => Promise<HostWorld>): void {
  describe(`a host ${way}`, { timeout: 60_000 }, () => {
    // Each in a scope of its own: the hooks of one must not make worlds for the tests of another.
    describe("and its commands", () => {
      describeCommands(makeWorld);
    });
    describe("and its files", () => {
      describeFiles(makeWorld);
    });
    describe("and its ways", () => {
      describeConnection(makeWorld);
    });
    if (kind === "remote")
      describe("and its line", () => {
        describeLine(makeWorld);
      });
  });
}
