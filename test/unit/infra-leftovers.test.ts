import { expect, test } from "vitest";
import type { CloudKind, CloudResource } from "../../cli/src/domain/cost/cloud.js";
import { knownAs, leftovers, type StackIds } from "../../cli/src/domain/infra/leftovers.js";

const now = new Date("2026-11-21T12:00:00Z");
const resource = (
  kind: CloudKind,
  id: number,
  labels: Record<string, string>,
  more: Partial<CloudResource> = {},
): CloudResource => ({
  kind,
  id,
  name: `r${id}`,
  labels,
  created: new Date("2026-11-20T12:00:00Z"),
  protected: false,
  type: null,
  location: null,
  sizeGb: null,
  status: null,
  backups: false,
  server: null,
  ...more,
});
const own = { "gpuctl-project": "shop", "gpuctl-stack": "prod" };
const stacks: StackIds[] = [{ stack: "prod", known: new Set([knownAs("hcloud:index/server:Server", "1")]) }];
const standings = (resources: readonly CloudResource[], gone: readonly string[] = []): string[] =>
  leftovers(resources, stacks, new Set(["shop"]), new Set(gone), now).map(
    ({ resource: { id }, standing }) => `${id} ${standing}`,
  );

test("what a stack knows is not listed, and the same number of another kind is not known by it", () => {
  expect(standings([resource("servers", 1, own), resource("volumes", 1, own)])).toEqual(["1 left-over"]);
});

test("what may belong to somebody else is told apart: another stack, another project, no labels", () => {
  const found = [
    resource("servers", 2, { ...own, "gpuctl-stack": "staging" }),
    resource("servers", 3, { ...own, "gpuctl-project": "blog" }),
    resource("servers", 4, {}),
  ];
  expect(standings(found)).toEqual(["2 stack-elsewhere", "3 other-project", "4 other-project"]);
  expect(standings(found, ["staging"])).toEqual(["2 left-over", "3 other-project", "4 other-project"]);
});

test("an empty stack proves nothing: one of the same name may be in another backend", () => {
  const empty: StackIds[] = [{ stack: "prod", known: new Set() }];
  const standing = (gone: readonly string[]): unknown =>
    leftovers([resource("servers", 1, own)], empty, new Set(["shop"]), new Set(gone), now)[0]?.standing;
  expect([standing([]), standing(["prod"])]).toEqual(["stack-empty", "left-over"]);
});

test("what was just made, or is protected, stays", () => {
  const young = new Date("2026-11-21T11:50:00Z");
  expect(standings([resource("servers", 2, own, { created: young }), resource("volumes", 3, own, { protected: true })])).toEqual([
    "2 too-young",
    "3 protected",
  ]);
});
