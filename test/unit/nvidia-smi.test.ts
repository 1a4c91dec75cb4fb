import fc from "fast-check";
import { expect, test } from "vitest";
import { instanceSizes, queriedFields, readNvidiaSmi } from "../../cli/src/domain/nvidia-smi.js";
import { capture, captures, smiOf } from "../support/nvidia-captures.js";

test.each(captures)("%s is read as recorded", async (name) => {
  await expect(`${JSON.stringify(smiOf(name), null, 2)}\n`).toMatchFileSnapshot(`../golden/nvidia-smi/${name}.json`);
});

test("what a card does not support is null, never zero", () => {
  const smi = smiOf("not-supported");
  expect(smi.state === "gpus" ? smi.gpus[0] : null).toMatchObject({
    totalMiB: 4043,
    usedMiB: null,
    freeMiB: null,
    mig: null,
    fault: null,
  });
});

test("MIG instances belong to the GPU above them", () => {
  const smi = smiOf("h200-mig");
  expect(smi.state === "gpus" ? smi.gpus.map(({ instances }) => instances.map(({ profile }) => profile)) : null).toEqual([
    ["3g.71gb", "1g.18gb"],
    [],
  ]);
});

test("a lost GPU is a fault of that GPU alone", () => {
  const smi = smiOf("lost");
  expect(smi.state === "gpus" ? smi.gpus.map(({ fault }) => fault) : null).toEqual([null, "GPU is lost"]);
});

test("an empty answer with success means no device", () => {
  expect(readNvidiaSmi({ code: 0, stdout: "\n", stderr: "" }, null)).toEqual({ state: "no-devices" });
});

test("a line with another number of fields is not guessed at", () => {
  expect(readNvidiaSmi({ code: 0, stdout: "0, GPU-1, T4\n", stderr: "" }, null).state).toBe("failed");
});

test("no answer makes the reader throw", () => {
  const cell = fc.oneof(fc.string({ maxLength: 10 }), fc.constantFrom("[N/A]", "[Not Supported]", "ERR!", "0", "Enabled"));
  const row = fc
    .array(cell, { minLength: queriedFields.length, maxLength: queriedFields.length })
    .map((cells) => cells.join(", "));
  const stdout = fc.oneof(
    fc.string(),
    fc.array(row).map((rows) => rows.join("\n")),
  );
  fc.assert(
    fc.property(fc.option(fc.integer()), stdout, fc.string(), stdout, (code, out, stderr, list) => {
      const smi = readNvidiaSmi({ code, stdout: out, stderr }, { code: 0, stdout: list, stderr: "" });
      expect(smi.state).toBeTypeOf("string");
    }),
  );
});

test("a MIG instance has the memory that its profile names", () => {
  expect([...instanceSizes(capture("h200-mig").list.stdout)]).toEqual([
    ["MIG-6b0f4f0c-0f3d-5a51-8a7c-1e2d3c4b5a60", 67_710],
    ["MIG-0d4c1a2b-9e8f-5c7d-b6a5-f4e3d2c1b0a9", 17_166],
  ]);
});
