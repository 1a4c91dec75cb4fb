import { expect, test } from "vitest";
import type { ServiceConfig } from "../../cli/src/domain/config/resolved.js";
import type { Sha256 } from "../../cli/src/domain/names.js";
import { renderSpec } from "../../cli/src/domain/spec.js";
import { mib } from "../../cli/src/domain/units.js";

const sha: Sha256 = "0".repeat(64);
const parts = {
  code: { wheel: sha, file: "gpuctl.whl", version: "0.1.0" },
  lock: sha,
  model: null,
  fallback: null,
  secrets: {},
  space: null,
  embedderUrl: null,
};

function config(changes: Partial<ServiceConfig>): ServiceConfig {
  return {
    service: "embedder",
    port: 8001,
    model: "small",
    device: { prefer: "auto", require: null, proof: "self" },
    vramBudget: null,
    slo: null,
    env: {},
    secrets: {},
    benchmarkGate: null,
    ...changes,
  };
}

test("a GPU memory budget reaches the service that must keep to it", () => {
  const vramBudget = mib(2048);
  expect(renderSpec(config({ vramBudget }), "127.0.0.1", parts).env).toEqual({ GPUCTL_VRAM_MIB: "2048" });
  expect(renderSpec(config({ vramBudget, service: "index", model: null }), "127.0.0.1", parts).env).toEqual({});
});

test("without a budget and a wished device the service decides by itself", () => {
  expect(renderSpec(config({}), "127.0.0.1", parts).env).toEqual({});
});
