import { describe, expect, it } from "vitest";
import { commandFirst } from "../../cli/src/main.js";
import { unknownCommand } from "../../cli/src/unknown-command.js";

const known = ["deploy", "destroy", "status", "config:view", "config:validate", "index:add", "models:fetch"];

describe("an unknown command", () => {
  it.each([
    [["depoly", "reranker"], "depoly", "deploy"],
    [["stauts"], "stauts", "status"],
    [["config", "vew"], "config vew", "config view"],
    [["model", "fetch"], "model", "models fetch"],
    [["frobnicate"], "frobnicate", null],
  ])("%j is named and the nearest one suggested", (words, command, suggestion) => {
    const error = unknownCommand(words, known);
    expect(error.exit).toBe("unknownCommand");
    expect(error.data).toEqual({ command, suggestion });
    expect(error.nextSteps).toContain(suggestion === null ? "gpuctl help" : `gpuctl ${suggestion}`);
  });
});

describe("global flags before the command", () => {
  it.each([
    [
      ["--json", "-e", "prod", "deploy", "embedder"],
      ["deploy", "embedder", "--json", "-e", "prod"],
    ],
    [
      ["-q", "exec", "--", "ls", "--json"],
      ["exec", "-q", "--", "ls", "--json"],
    ],
    [
      ["deploy", "--json"],
      ["deploy", "--json"],
    ],
    [["--json"], ["--json"]],
    [
      ["--nope", "deploy"],
      ["--nope", "deploy"],
    ],
  ])("%j is read as %j", (typed, read) => {
    expect(commandFirst(typed)).toEqual(read);
  });
});
