import { expect, test } from "vitest";
import { SavedImages } from "../../../../cli/src/adapters/images/saved-images.js";
import type { CommandResult, Executor } from "../../../../cli/src/ports.js";

const layers = ["1", "2"].map((digit) => `sha256:${digit.repeat(64)}`);
const signal = new AbortController().signal;

async function look(answer: Partial<CommandResult> | Error): Promise<unknown> {
  const executor: Executor = {
    run: async () => {
      if (answer instanceof Error) throw answer;
      return { code: 0, signal: null, stdout: "", stderr: "", ...answer };
    },
  };
  return new SavedImages("/nowhere", executor, { emit: () => undefined }).look(`sha256:${"7".repeat(64)}`, signal);
}

test("what Docker says of an image here is its size and its layers; nothing where there is none, or no Docker", async () => {
  expect(await look({ stdout: `5300000000 ${layers.join(" ")}\n` })).toEqual({ bytes: 5.3e9, layers });
  expect(await look({ stdout: "0 \n" })).toEqual({ bytes: 0, layers: [] });
  expect(await look({ code: 1, stdout: "\n", stderr: "Error: No such image" })).toBeNull();
  expect(await look({ stdout: "<no value>\n" })).toBeNull();
  expect(await look(new Error("there is no docker"))).toBeNull();
});
