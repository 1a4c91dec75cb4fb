import { expect, test } from "vitest";
import { cdiDeviceFor } from "../../../cli/src/domain/preflight/cdi-device.js";
import { factsOf, printed, type Changes } from "./captures.js";

const t4 = "GPU-5a1c3d0e-7b52-4f0a-9c1e-0d6a1f2b3c4d";
const listing = (...names: string[]): Changes => {
  const info = JSON.parse(printed("t4-ubuntu", "docker-info")) as Record<string, unknown>;
  const DiscoveredDevices = names.map((name) => ({ Source: "cdi", ID: `nvidia.com/gpu=${name}` }));
  return { "docker-info": [0, JSON.stringify({ ...info, DiscoveredDevices })] };
};
const two: Changes = {
  "smi-query": [
    0,
    `${printed("t4-ubuntu", "smi-query")}1, GPU-2, Tesla T4, 580.95.05, 7.5, 15360, 0, 15000, [N/A], 0, 41, Enabled\n`,
  ],
};

test("a reserved GPU is asked for by UUID, else by its index, else as all of one", () => {
  expect(cdiDeviceFor(factsOf("t4-ubuntu"), t4)).toBe(`nvidia.com/gpu=${t4}`);
  expect(cdiDeviceFor(factsOf("t4-ubuntu", listing("0", "all")), t4)).toBe("nvidia.com/gpu=0");
  expect(cdiDeviceFor(factsOf("t4-ubuntu", listing("all")), t4)).toBe("nvidia.com/gpu=all");
  expect(cdiDeviceFor(factsOf("wsl2"), "GPU-8a6d3c11-90aa-4a5b-bb7e-2f6c4c6f9d01")).toBe("nvidia.com/gpu=all");
});

test("all GPUs are never given for one of two", () => {
  expect(cdiDeviceFor(factsOf("t4-ubuntu", { ...two, ...listing("all") }), "GPU-2")).toBeNull();
  expect(cdiDeviceFor(factsOf("t4-ubuntu", { ...two, ...listing("0", "1", "all") }), "GPU-2")).toBe("nvidia.com/gpu=1");
});

test("a GPU that the node does not have has no device, whatever is listed", () => {
  expect(cdiDeviceFor(factsOf("t4-ubuntu", listing("0", "all")), "GPU-of-another-node")).toBeNull();
});

test("who reserves none gets all, where that is listed", () => {
  expect(cdiDeviceFor(factsOf("t4-ubuntu"), null)).toBe("nvidia.com/gpu=all");
  expect(cdiDeviceFor(factsOf("t4-ubuntu", listing("0")), null)).toBeNull();
});

test("an engine that lists no devices is believed to find what the specifications name", () => {
  const silent: Changes = { "docker-info": [0, '{"CDISpecDirs":["/etc/cdi"]}'] };
  expect(cdiDeviceFor(factsOf("t4-ubuntu", silent), t4)).toBe(`nvidia.com/gpu=${t4}`);
});
