import { expect, test } from "vitest";
import { settleDevices, type NodeNeeds, type ServiceNeeds } from "../../../cli/src/domain/preflight/needs.js";
import { factsOf } from "./captures.js";

const service = (name: string, prefer: "auto" | "cuda"): ServiceNeeds => ({
  name,
  port: 8001,
  device: { prefer, require: null, proof: "self" },
  gpu: null,
  vramMiB: null,
  modelBytes: 0,
  cpuFallback: false,
  keys: false,
});

test("auto is the GPU of a node that has one, but for the index, which gets a card only when told to", () => {
  const needs = { services: [service("embedder", "auto"), service("index", "auto"), service("index", "cuda")] };
  const settled = settleDevices(needs as unknown as NodeNeeds, factsOf("t4-ubuntu"));
  expect(settled.services.map(({ device }) => device.prefer)).toEqual(["cuda", "cpu", "cuda"]);
  const without = settleDevices(needs as unknown as NodeNeeds, factsOf("debian-docker"));
  expect(without.services.map(({ device }) => device.prefer)).toEqual(["cpu", "cpu", "cuda"]);
});
