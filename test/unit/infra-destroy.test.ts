/** What infra destroy says before anything is confirmed. */
import { describe, expect, test } from "vitest";
import { infraDestroy } from "../../cli/src/app/infra-destroy.js";
import type { InfraTools } from "../../cli/src/app/infra-stack.js";
import { UsageError } from "../../cli/src/domain/errors.js";
import type { Change } from "../../cli/src/domain/infra/preview.js";

describe("infra destroy", () => {
  const change = (type: string, name: string, inputs: Change["inputs"] = {}): Change => ({
    op: "delete",
    type,
    name,
    id: "7",
    protected: false,
    because: [],
    inputs,
  });
  const box = change("gpuctl:index:AdoptedHost", "gpu-1");
  const preparation = change("command:remote:Command", "gpu-1-prepare", { create: "bash -s" });
  const removal = change("command:remote:Command", "gpu-1-removal", { delete: "bash -s" });

  /** What it refuses with when the stack has made these, and nothing is confirmed. */
  const asked = async (deleted: readonly Change[]): Promise<UsageError> => {
    const tools = {
      hcloud: null,
      progress: { emit: () => undefined },
      pulumi: {
        state: async () => ({ ok: true, value: { resources: [] } }),
        project: async () => ({
          directory: "/home/ann/shop",
          backend: "file:///home/ann/state",
          name: "shop",
          configured: ["prod"],
          embedded: true,
        }),
        previewDestroy: async () => ({ ok: true, value: { changes: deleted, same: 0, diagnostics: [] } }),
      },
    } as unknown as InfraTools;
    const request = { stack: "prod", confirm: undefined, keepProtected: false };
    const error: unknown = await infraDestroy(tools, request).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UsageError);
    return error as UsageError;
  };

  test("says what becomes of an adopted box, and only counts components and commands that do nothing then", async () => {
    const { message, because, lines, nextSteps } = await asked([box, preparation, removal]);
    expect(message).toBe("gpuctl infra destroy would delete what the stack prod has made: one thing in use");
    expect(because).toBe("what becomes of it is said below; hosts and clusters that the stack has not made stay");
    expect(lines).toEqual([
      "-  command gpu-1-removal (7): what gpuctl made there is taken away: account, units and firewall rules; refused while releases serve there",
      "and 2 other records",
    ]);
    expect(nextSteps).toEqual(["gpuctl infra destroy --stack prod --confirm prod"]);
  });

  test("says so when nothing of it is in use", async () => {
    const { message, lines } = await asked([preparation]);
    expect(message).toMatch(/: nothing that is in use$/);
    expect(lines).toEqual(["and 1 other record"]);
  });
});
