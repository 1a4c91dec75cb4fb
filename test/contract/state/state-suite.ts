import { describe } from "vitest";
import { describeAudit } from "./audit-contract.js";
import { describeLeases } from "./lease-contract.js";
import { describeReleases } from "./release-contract.js";
import type { StateWorld } from "./state-world.js";

/** What an environment's state promises wherever it lies. @param suffix  how lease files end there */
export function describeState(where: string, suffix: "json" | "lease", makeWorld: () => StateWorld): void {
  describe(`state ${where}`, { timeout: 60_000 }, () => {
    describe("and its release records", () => {
      describeReleases(makeWorld);
    });
    describe("and its leases", () => {
      describeLeases(makeWorld, suffix);
    });
    describe("and its audit", () => {
      describeAudit(makeWorld);
    });
  });
}
