import { expect, test } from "vitest";
import { Redaction } from "../../cli/src/domain/redaction.js";
import { UsageError } from "../../cli/src/domain/errors.js";
import { nodeChoice } from "../../cli/src/lifecycle-flags.js";
import { createContext } from "../../cli/src/wiring.js";
import { Environment } from "../fakes/environment.js";

test("--hosts is a list of names, spaces around them do not count, and none at all is a mistake", () => {
  expect(nodeChoice({})).toEqual({});
  expect(nodeChoice({ hosts: "gpu-1, gpu-2,", parallel: 2 })).toEqual({ hosts: ["gpu-1", "gpu-2"], parallel: 2 });
  expect(() => nodeChoice({ hosts: " , " })).toThrow(UsageError);
});

test.each([
  ["--hosts", { hosts: ["gpu-1"] }],
  ["--parallel", { parallel: 2 }],
])("%s is refused where there are no nodes, rather than ignored", async (flag, choice) => {
  const request = {
    env: {},
    progress: { emit: () => undefined },
    signal: new AbortController().signal,
    gpuctlVersion: "0.0.0",
    packageRoot: "/",
    redaction: new Redaction(),
  };
  await expect(createContext(new Environment().config, request, choice)).rejects.toThrow(
    `${flag} is for environments with nodes`,
  );
});
