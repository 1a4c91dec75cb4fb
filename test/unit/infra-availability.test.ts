import { expect, test } from "vitest";
import type { ServerType } from "../../cli/src/domain/cost/cloud.js";
import { unavailable } from "../../cli/src/domain/infra/availability.js";
import type { Change } from "../../cli/src/domain/infra/preview.js";

const type = (name: string, cores: number, here: Record<string, boolean>, architecture = "x86"): ServerType => ({
  name,
  cores,
  memory: cores * 4,
  architecture,
  cpu: "shared",
  locations: Object.entries(here).map(([location, available]) => ({ name: location, available, deprecated: false })),
});
const types = [
  type("cx23", 2, { fsn1: false, nbg1: true, hel1: true }),
  type("cx33", 4, { fsn1: true, nbg1: true }),
  type("cx43", 8, { fsn1: true }),
  type("cx13", 1, { fsn1: true }),
  type("cax21", 4, { fsn1: true }, "arm"),
];
const server = (inputs: Record<string, unknown>, op: Change["op"] = "create"): Change => ({
  type: "hcloud:index/server:Server",
  name: "web",
  op,
  id: null,
  protected: false,
  because: [],
  inputs,
});

test("a type that is not to be had comes with the same type elsewhere and larger ones of its kind there", () => {
  expect(unavailable([server({ serverType: "cx23", location: "fsn1" })], types)).toEqual([
    {
      server: "server web",
      because: "cx23 is not available in fsn1 at the moment",
      alternatives: ["cx23 in nbg1", "cx23 in hel1", "cx33 in fsn1", "cx43 in fsn1"],
    },
  ]);
});

test("what is not sold at all, or not there, is said so", () => {
  const because = (inputs: Record<string, unknown>): string | undefined => unavailable([server(inputs)], types)[0]?.because;
  expect(because({ serverType: "gx11", location: "fsn1" })).toBe("there is no server type gx11");
  expect(because({ serverType: "cx33", location: "ash" })).toBe("cx33 is not sold in ash");
  expect(because({ serverType: "cx33", location: "fsn1" })).toBeUndefined();
  expect(because({ serverType: "cx23" })).toBeUndefined();
});

test("servers that would be made are asked about, and those that get another type, which end up powered off where it cannot be had", () => {
  const inputs = { serverType: "cx23", location: "fsn1" };
  const resized = { ...server(inputs, "update"), because: ["labels", "serverType"] };
  expect(unavailable([{ ...server(inputs, "update"), because: ["labels"] }, server(inputs, "delete")], types)).toEqual([]);
  expect(unavailable([server(inputs, "replace")], types)).toHaveLength(1);
  expect(unavailable([resized], types)).toEqual([
    {
      server: "server web",
      because: "cx23 is not available in fsn1 at the moment",
      // It keeps its disk and its address, and so its location.
      alternatives: ["cx33 in fsn1", "cx43 in fsn1"],
    },
  ]);
});
