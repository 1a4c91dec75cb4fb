import { describe, expect, it } from "vitest";
import { presetNames } from "../../cli/src/domain/config/presets.js";
import { nearest } from "../../cli/src/domain/config/suggest.js";

describe("the preset that somebody most likely meant", () => {
  it.each([
    ["bge-smal-en-v1.5", "bge-small-en-v1.5"],
    ["bge-small", "bge-small-en-v1.5"],
    ["BGE_M3", "bge-m3"],
    ["all-minilm", "all-MiniLM-L6-v2"],
    ["e5-small", "multilingual-e5-small"],
  ])("%s", (typed, meant) => {
    expect(nearest(typed, presetNames)).toBe(meant);
  });

  it("is nobody's guess for a word that is like none, or too short", () => {
    expect(nearest("gpt-4", presetNames)).toBeNull();
    expect(nearest("en", presetNames)).toBeNull();
  });
});
