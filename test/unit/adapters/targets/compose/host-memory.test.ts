import { afterEach, beforeEach, expect, test } from "vitest";
import { hostMemory } from "../../../../../cli/src/adapters/targets/compose/host-memory.js";
import { capture } from "../../../../support/nvidia-captures.js";
import { ScriptedHost } from "./scripted-host.js";

const card = "GPU-c2c9a3f4-4ed5-41d5-8a0a-0b1f8d9e7a22";
const instance = "MIG-0d4c1a2b-9e8f-5c7d-b6a5-f4e3d2c1b0a9";
let host: ScriptedHost;

beforeEach(() => {
  const { query, list } = capture("h200-mig");
  host = new ScriptedHost();
  host.file("query", query.stdout);
  host.file("list", list.stdout);
  host.program("nvidia-smi", `case $1 in -L) cat '${host.directory}/list' ;; *) cat '${host.directory}/query' ;; esac`);
});
afterEach(() => host.dispose());

test("a MIG instance has an entry: its size, and that nobody tells what is free of it", async () => {
  const given = [
    { uuid: card, services: ["embedder"] as const },
    { uuid: instance, services: ["reranker"] as const },
  ];
  expect(await hostMemory(host.commands, given, ["embedder", "reranker"])).toEqual([
    { device: "cuda", place: `gpu-1, ${card}`, services: ["embedder"], freeMiB: 143_120, totalMiB: 143_771 },
    { device: "cuda", place: `gpu-1, ${instance}`, services: ["reranker"], freeMiB: null, totalMiB: 17_166 },
  ]);
});

test("one that the node does not list any more is an error that names it", async () => {
  const given = [{ uuid: "MIG-gone", services: ["embedder"] as const }];
  await expect(hostMemory(host.commands, given, ["embedder"])).rejects.toMatchObject({
    because: "nvidia-smi does not list MIG-gone",
  });
});
