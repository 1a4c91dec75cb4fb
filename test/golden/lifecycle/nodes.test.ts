/** The table of hosts in `gpuctl status`. */
import { join } from "node:path";
import { expect, test } from "vitest";
import { nodesText } from "../../../cli/src/app/render/nodes-text.js";
import type { NodeStatus, ServiceOnNode } from "../../../cli/src/app/status-nodes.js";
import { summaryOf, withGpuContainer } from "../../../cli/src/domain/preflight/node-summary.js";
import { factsOf } from "../../unit/preflight/captures.js";

const at = "2026-03-01T12:00:00.000Z";
const embedder: ServiceOnNode = {
  service: "embedder",
  instance: "embedder-r3-0000abcd-a",
  process: { state: "running", pid: 41 },
  traffic: "open",
  restarts: 0,
  address: "http://10.0.0.5:8001",
};
const reranker: ServiceOnNode = { ...embedder, service: "reranker", process: { state: "exited", code: 1, signal: null } };

test("nodes with what they run and keep, and what they were when they were looked at last", async () => {
  const ended = { device: "nvidia.com/gpu=0", what: "a container starts and sees GPU 0", at: "2026-02-28T12:00:00.000Z" };
  const seen = withGpuContainer(summaryOf("gpu-1", factsOf("t4-ubuntu"), at), ended);
  const nodes: readonly NodeStatus[] = [
    { node: "gpu-1", silent: null, services: [embedder, reranker], records: "whole", leftOutOf: null, open: [embedder.instance], seen },
    {
      node: "gpu-2",
      silent: null,
      services: [{ ...embedder, traffic: "paused" }, { ...reranker, process: null, traffic: null }],
      records: "behind", leftOutOf: null,
      open: [],
      seen: { ...summaryOf("gpu-2", factsOf("bare-ubuntu"), at), clock: { skewMs: -4200, boundMs: 30 } },
    },
    {
      node: "gpu-4",
      silent: null,
      services: [],
      records: "blank", leftOutOf: null,
      open: [],
      seen: summaryOf("gpu-4", factsOf("after-upgrade"), at),
    },
    { node: "gpu-3", silent: "no route to host", services: [embedder], records: "unreachable", leftOutOf: null, open: [], seen: null },
  ];
  await expect(nodesText(nodes)).toMatchFileSnapshot(join(import.meta.dirname, "status-nodes.txt"));
  await expect(nodesText(nodes, true)).toMatchFileSnapshot(join(import.meta.dirname, "status-nodes-verbose.txt"));
  expect(nodesText([])).toBe("");
  const { details: _, ...before } = seen;
  expect(nodesText([{ ...nodes[0]!, seen: before }], true)).toBe(nodesText([{ ...nodes[0]!, seen: before }]));
});

test("what records of earlier versions do not have is not spoken of", () => {
  const { details, ...summary } = summaryOf("gpu-1", factsOf("after-upgrade"), at);
  const { access, driverFiles, cdi, rebootPending, ...earlier } = details!;
  expect([access, driverFiles, cdi, rebootPending]).not.toContain(undefined);
  const node: NodeStatus = { node: "gpu-1", silent: null, services: [], records: "whole", leftOutOf: null, open: [], seen: null };
  const said = nodesText([{ ...node, seen: { ...summary, details: earlier } }], true);
  expect(said).toContain("Secure Boot: off");
  expect(said).not.toMatch(/access:|driver on disk:|CDI in Docker:|restart pending:|undefined/);
});
