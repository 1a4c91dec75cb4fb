/** The steps of `npm test`: every one runs, a failing one hides no other, and the last line counts. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cacheDirectory } from "./python.mjs";
import { root, say, SetUpFailed, show } from "./run.mjs";
import { ensureTestModels, testModelStore } from "./test-models.mjs";

const services = join(root, "compose/services");

/**
 * @typedef {object} Step
 * @property {string} name
 * @property {string} file
 * @property {readonly string[]} args
 * @property {string} [cwd]
 * @property {(report: string) => { passed: number, failed: number }} [count] reads the report of a step that runs tests
 */

/**
 * @param {{ node: string, runtime: string, development: string }} tools interpreters
 * @param {readonly string[]} wanted names of steps; none means all but the root tier
 * @returns {Promise<number>} exit code
 */
export async function runChecks(tools, wanted) {
  const scratch = mkdtempSync(join(tmpdir(), "gpuctl-test-"));
  const total = { passed: 0, failed: 0 };
  try {
    const env = testEnvironment(tools, scratch);
    for (const step of selectSteps(stepsOf(tools, scratch), wanted)) {
      if (step.needsModels) await fetchModels(tools);
      const { passed, failed, interrupted } = await runStep(step, env);
      total.passed += passed;
      total.failed += failed;
      if (interrupted) break;
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  process.stdout.write(`${total.passed} passed, ${total.failed} failed\n`);
  return total.failed === 0 ? 0 : 1;
}

function stepsOf({ node, development }, scratch) {
  const tool = (name, path, ...args) => ({ name, file: node, args: [join(root, "node_modules", path), ...args] });
  const python = (name, ...args) => ({ name, file: development, args: ["-m", ...args], cwd: services });
  const vitest = (name) => {
    const report = join(scratch, `vitest-${name}.json`);
    const args = [
      "run",
      "--project",
      name,
      "--reporter=default",
      "--reporter=json",
      `--outputFile.json=${report}`,
      "--passWithNoTests",
    ];
    return { ...tool(name, "vitest/vitest.mjs", ...args), count: () => vitestCounts(report) };
  };
  const pytestReport = join(scratch, "pytest.xml");
  return [
    tool("eslint", "eslint/bin/eslint.js", "."),
    tool("prettier", "prettier/bin/prettier.cjs", "--check", "--log-level=warn", "."),
    tool("knip", "knip/bin/knip.js"),
    tool("types", "typescript/bin/tsc", "--noEmit", "-p", "tsconfig.test.json"),
    python("ruff", "ruff", "check", "."),
    python("ruff-format", "ruff", "format", "--check", "."),
    python("mypy", "mypy"),
    vitest("unit"),
    {
      ...python("pytest", "pytest", "-p", "no:cacheprovider", `--junitxml=${pytestReport}`),
      count: () => pytestCounts(pytestReport),
      needsModels: true,
    },
    { ...vitest("e2e"), needsModels: true },
    { ...vitest("root"), needsModels: true, onlyByName: true },
  ];
}

function selectSteps(steps, wanted) {
  const unknown = wanted.filter((name) => !steps.some((step) => step.name === name));
  if (unknown.length > 0) {
    throw new SetUpFailed(`There is no step ${unknown.join(", ")}.`, [
      `npm test -- ${steps.map((step) => step.name).join(" | ")}`,
    ]);
  }
  return steps.filter((step) => (wanted.length === 0 ? step.onlyByName !== true : wanted.includes(step.name)));
}

async function runStep(step, env) {
  say(`\n── ${step.name}`);
  const started = performance.now();
  const code = await show(step.file, step.args, { cwd: step.cwd ?? root, env, stdio: ["ignore", 2, 2] });
  say(`── ${step.name}: ${code === 0 ? "passed" : `failed (${code})`} in ${((performance.now() - started) / 1000).toFixed(1)} s`);
  const counted = step.count?.() ?? { passed: 0, failed: 0 };
  // A step that fails without a failing test (a lint finding, a crash while collecting) is itself a failure.
  const failed = code !== 0 ? Math.max(1, counted.failed) : counted.failed;
  return { passed: counted.passed, failed, interrupted: code === 130 || code === 143 };
}

/** The tests' own world: nothing of the user's settings, state or models, so that they pass beside a running stack. */
function testEnvironment({ node, runtime, development }, scratch) {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith("GPUCTL_"));
  return {
    ...Object.fromEntries(own),
    PATH: `${join(root, "node_modules/.bin")}:${process.env.PATH}`,
    XDG_STATE_HOME: join(scratch, "state"),
    XDG_DATA_HOME: join(scratch, "data"),
    XDG_CONFIG_HOME: join(scratch, "config"),
    GPUCTL_CACHE_DIR: cacheDirectory(),
    GPUCTL_TEST_MODEL_STORE: testModelStore(),
    GPUCTL_TEST_PYTHON: development,
    GPUCTL_TEST_RUNTIME_PYTHON: runtime,
    GPUCTL_TEST_NODE: node,
    PYTHONDONTWRITEBYTECODE: "1",
  };
}

/** Without the model, the tests that need it will say so one by one; here is why. */
async function fetchModels({ runtime }) {
  try {
    await ensureTestModels(runtime);
  } catch (error) {
    say(error.message);
  }
}

function vitestCounts(path) {
  const report = readReport(path);
  if (report === null) return { passed: 0, failed: 0 };
  const { numPassedTests, numFailedTests, numFailedTestSuites } = JSON.parse(report);
  return { passed: numPassedTests, failed: numFailedTests === 0 ? Math.min(1, numFailedTestSuites) : numFailedTests };
}

function pytestCounts(path) {
  const report = readReport(path) ?? "";
  const number = (name) => Number(new RegExp(`<testsuite [^>]*\\b${name}="(\\d+)"`).exec(report)?.[1] ?? 0);
  const failed = number("failures") + number("errors");
  return { passed: number("tests") - failed - number("skipped"), failed };
}

/** Null when the step died before it could write one. */
function readReport(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}
