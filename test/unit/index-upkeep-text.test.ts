import { expect, test } from "vitest";
import { factsText } from "../../cli/src/app/render/index-upkeep-text.js";

test("what an index answered is printed in words, sizes and yes or no", () => {
  const text = factsText({
    ok: true,
    bytesBefore: 1593816,
    sweptVectors: 1200,
    offline: false,
    directory: "/backup",
    findings: [],
  });
  expect(text.split("\n")).toEqual([
    "bytes before   1.5 MiB",
    "swept vectors  1,200",
    "offline        no",
    "directory      /backup",
  ]);
});
