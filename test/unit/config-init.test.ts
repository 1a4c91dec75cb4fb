import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { parseYaml } from "../../cli/src/adapters/config/yaml-source.js";
import { schemaReference } from "../../cli/src/app/init.js";
import ConfigValidate from "../../cli/src/commands/config/validate.js";
import ConfigView from "../../cli/src/commands/config/view.js";
import Deploy from "../../cli/src/commands/deploy.js";
import Plan from "../../cli/src/commands/plan.js";
import Init from "../../cli/src/commands/init.js";
import { renderJsonSchema } from "../../cli/src/domain/config/json-schema.js";
import { projectNameFrom, renderTemplate } from "../../cli/src/domain/config/template.js";
import { validateProject } from "../../cli/src/domain/config/validate.js";
import { targetKinds } from "../../cli/src/domain/names.js";
import { packageRoot, runCommand } from "../support/run-command.js";

let folder: string;
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), "gpuctl-init-"))));
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

test.each(targetKinds)("the file for %s is valid as it is written", async (target) => {
  const text = renderTemplate({ target, project: "shop-search", firstPort: 8001, schema: "./gpuctl.schema.json" });
  await expect(text).toMatchFileSnapshot(`../golden/init/${target}.yaml`);
  expect(validateProject(parseYaml("gpuctl.yaml", text)).problems).toEqual([]);
});

test.each(targetKinds)("every commented setting of the file for %s is one that exists", (target) => {
  const text = renderTemplate({ target, project: "shop-search", firstPort: 8001, schema: "./gpuctl.schema.json" });
  const uncommented = text
    .replace("<full commit hash>", "0a".repeat(20))
    .replaceAll(/^( {2,})# (?=\s*[a-zA-Z0-9-]+:)/gm, "$1")
    .replaceAll(/^ {4} {2}embedder:/gm, "      embedder:");
  const problems = validateProject(parseYaml("gpuctl.yaml", uncommented)).problems.filter(({ severity }) => severity === "error");
  expect(problems).toEqual([]);
});

test("init writes a file that validates, and says what to do next", async () => {
  const made = await runCommand(Init, ["--path", folder, "--project", "shop"], { cwd: folder });
  expect(made.exitCode).toBe(0);
  expect(made.stdout).toContain("gpuctl models fetch");
  const checked = await runCommand(ConfigValidate, [], { cwd: folder });
  expect(checked).toMatchObject({ exitCode: 0, stdout: "gpuctl.yaml is valid: embedder, reranker, index in local (process).\n" });
});

test.each(targetKinds.filter((target) => target !== "process" && target !== "compose"))(
  "a file for %s is accepted by config validate, and plan and deploy exit with 3 and say that there is no driver yet",
  async (target) => {
    await runCommand(Init, ["--target", target], { cwd: folder });
    expect((await runCommand(ConfigValidate, [], { cwd: folder })).exitCode).toBe(0);
    for (const command of [Plan, Deploy]) {
      const refused = await runCommand(command, [], { cwd: folder, env: { HOME: folder } });
      expect(refused.exitCode).toBe(3);
      expect(refused.stderr).toContain(`the target ${target} of environment production has no driver in this version`);
    }
  },
);

test("init never overwrites: not a file, not a link to nothing, not a folder", async () => {
  const file = join(folder, "gpuctl.yaml");
  writeFileSync(file, "mine");
  const refused = await runCommand(Init, [], { cwd: folder });
  expect(refused.exitCode).toBe(5);
  expect(refused.stderr).toContain(`${file} exists already`);
  expect(readFileSync(file, "utf8")).toBe("mine");
  rmSync(file);
  symlinkSync(join(folder, "nowhere"), file);
  expect((await runCommand(Init, [], { cwd: folder })).exitCode).toBe(5);
  expect(existsSync(join(folder, "nowhere"))).toBe(false);
  rmSync(file);
  mkdirSync(file);
  expect((await runCommand(Init, [], { cwd: folder })).exitCode).toBe(5);
});

test("init into a folder that does not exist says what is missing", async () => {
  const refused = await runCommand(Init, ["--path", join(folder, "no/such")], { cwd: folder });
  expect(refused.exitCode).toBe(1);
  expect(refused.stderr).toContain("no such file or directory");
});

test("init refuses a project name that could not become part of other names, and offers one that can", async () => {
  const refused = await runCommand(Init, ["--project", "Shop Search!"], { cwd: folder });
  expect(refused.exitCode).toBe(2);
  expect(refused.stderr).toContain("gpuctl init --project shop-search");
  expect(existsSync(join(folder, "gpuctl.yaml"))).toBe(false);
});

test.each([
  ["Shop Search", "shop-search"],
  ["2024-büro.app", "buro-app"],
  ["___", "my-project"],
  ["日本", "my-project"],
  ["x".repeat(60), "x".repeat(40)],
])("the folder %s gives the project %s", (name, project) => {
  expect(projectNameFrom(name)).toBe(project);
});

test("the first port moves all three", async () => {
  await runCommand(Init, ["--first-port", "9000", "--json"], { cwd: folder });
  const view = await runCommand(ConfigView, ["--json"], { cwd: folder });
  const { result } = JSON.parse(view.stdout) as { result: { values: { path: string; value: unknown }[] } };
  expect(result.values.filter(({ path }) => path.endsWith(".port")).map(({ value }) => value)).toEqual([9000, 9001, 9002]);
});

test("an editor finds the schema by a relative path in a checkout and in node_modules, else by the package's own path", () => {
  expect(schemaReference("/src/gpuctl", "/src/gpuctl")).toBe("./gpuctl.schema.json");
  expect(schemaReference("/src/gpuctl/examples/a", "/src/gpuctl")).toBe("../../gpuctl.schema.json");
  expect(schemaReference("/app", "/app/node_modules/gpuctl")).toBe("./node_modules/gpuctl/gpuctl.schema.json");
  expect(schemaReference("/app", "/usr/lib/node_modules/gpuctl")).toBe("/usr/lib/node_modules/gpuctl/gpuctl.schema.json");
});

test("gpuctl.schema.json is the schema of this version", async () => {
  await expect(renderJsonSchema()).toMatchFileSnapshot(join(packageRoot, "gpuctl.schema.json"));
});

test("config validate exits with 3 and gives every problem as data", async () => {
  writeFileSync(join(folder, "gpuctl.yaml"), "version: 1\nprojct: x\nservices: { embeder: {} }\nenvironments: {}\n");
  const { stdout, exitCode } = await runCommand(ConfigValidate, ["--json"], { cwd: folder });
  expect(exitCode).toBe(3);
  const { ok, error } = JSON.parse(stdout) as { ok: boolean; error: { data: { problems: Record<string, unknown>[] } } };
  expect(ok).toBe(false);
  expect(error.data.problems).toContainEqual({
    severity: "error",
    code: "unknown-key",
    file: "gpuctl.yaml",
    line: 3,
    column: 13,
    path: "services.embeder",
    message: 'unknown key "embeder"',
    hint: 'did you mean "embedder"?',
  });
});

test("config validate notices variables that mean nothing", async () => {
  await runCommand(Init, [], { cwd: folder });
  const { stdout, exitCode } = await runCommand(ConfigValidate, [], { cwd: folder, env: { GPUCTL_SOKE: "1s", GPUCTL_BIND: "" } });
  expect(exitCode).toBe(0);
  expect(stdout).toContain("GPUCTL_SOKE: warning: not a variable of gpuctl; did you mean GPUCTL_SOAK?");
});

test("the project file is searched upwards, not above the repository, and --config and GPUCTL_CONFIG go first", async () => {
  mkdirSync(join(folder, "repo/.git"), { recursive: true });
  mkdirSync(join(folder, "repo/a/b"), { recursive: true });
  await runCommand(Init, ["--project", "outside"], { cwd: folder });
  const missing = await runCommand(ConfigView, [], { cwd: join(folder, "repo/a/b") });
  expect(missing.exitCode).toBe(3);
  expect(missing.stderr).toContain("there is no gpuctl.yaml here or above");
  await runCommand(Init, ["--project", "inside"], { cwd: join(folder, "repo") });
  const project = async (argv: string[], env = {}): Promise<string> => {
    const { stdout } = await runCommand(ConfigView, ["--json", ...argv], { cwd: join(folder, "repo/a/b"), env });
    return (JSON.parse(stdout) as { result: { project: string } }).result.project;
  };
  expect(await project([])).toBe("inside");
  expect(await project([], { GPUCTL_CONFIG: "../../../gpuctl.yaml" })).toBe("outside");
  expect(await project(["--config", "../../gpuctl.yaml"], { GPUCTL_CONFIG: "/nowhere" })).toBe("inside");
});

test("gpuctl.yml is not read, but noticed", async () => {
  mkdirSync(join(folder, ".git"));
  writeFileSync(join(folder, "gpuctl.yml"), "version: 1\n");
  const { stderr } = await runCommand(ConfigView, [], { cwd: folder });
  expect(stderr).toContain("the name is gpuctl.yaml");
});
