/** Running the steps of a test command: every one runs, a failing one hides no other, and the last line counts. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { cacheDirectory } from "./python.mjs";
import { root, say, SetUpFailed, show } from "./run.mjs";
import { ensureTestModels, testModelStore } from "./test-models.mjs";

export const services = join(root, "compose/services");

/**
 * @typedef {{ node: string, runtime: string, development: string }} Tools interpreters
 *
 * @typedef {object} Step
 * @property {string} name
 * @property {string | (() => Promise<string>)} file what is run, or how to get it first
 * @property {readonly string[]} args
 * @property {string} [cwd]
 * @property {Readonly<Record<string, string>>} [env] beyond the environment of all steps
 * @property {boolean} [needsModels]
 * @property {boolean} [onlyByName]
 * @property {() => Counted} [count] reads the report of a step that runs tests
 *
 * @typedef {{ passed: number, failed: number, failures: readonly string[] }} Counted with the names of those that failed
 *
 * @typedef {Counted & { name: string, seconds: number, interrupted: boolean }} Outcome
 */

/** @type {Counted} of a step that runs no tests, or died before it could write their report */
const NOTHING = { passed: 0, failed: 0, failures: [] };

/**
 * Runs steps one after another and prints what failed, a line each, and `N passed, N failed`.
 * @param {string} command what a person types before `-- STEP`
 * @param {(scratch: string) => readonly Step[]} stepsOf
 * @param {Tools} tools
 * @param {readonly string[]} wanted names of steps; none means all that are not only by name
 * @param {(outcomes: readonly Outcome[], scratch: string) => void} [after] before the scratch folder is gone
 * @returns {Promise<number>} exit code
 */
export async function runSteps(command, stepsOf, tools, wanted, after) {
  const scratch = mkdtempSync(join(tmpdir(), "gpuctl-test-"));
  const outcomes = [];
  try {
    const env = testEnvironment(tools, scratch);
    for (const step of selectSteps(command, stepsOf(scratch), wanted)) {
      if (step.needsModels) await fetchModels(tools);
      const outcome = await runStep(step, { ...env, ...step.env });
      outcomes.push(outcome);
      if (outcome.interrupted) break;
    }
    after?.(outcomes, scratch);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  for (const { name, failures } of outcomes) {
    for (const failure of failures) process.stdout.write(`failed: ${name}: ${failure}\n`);
  }
  const total = (key) => outcomes.reduce((sum, outcome) => sum + outcome[key], 0);
  process.stdout.write(`${total("passed")} passed, ${total("failed")} failed\n`);
  return total("failed") === 0 ? 0 : 1;
}

/**
 * A pytest step that counts.
 * @param {string} name @param {Step["file"]} python @param {string} report file for the results @param {...string} args
 */
export function pytestStep(name, python, report, ...args) {
  return {
    name,
    file: python,
    args: ["-m", "pytest", "-p", "no:cacheprovider", `--junitxml=${report}`, ...args],
    cwd: services,
    count: () => pytestCounts(report),
    needsModels: true,
  };
}

/**
 * A step of one of vitest's projects, which counts.
 * @param {string} name @param {string} node @param {string} scratch @param {string} [project]
 */
export function vitestStep(name, node, scratch, project = name) {
  const report = join(scratch, `vitest-${name}.json`);
  const reports = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
  const args = [join(root, "node_modules/vitest/vitest.mjs"), "run", "--project", project, ...reports, "--passWithNoTests"];
  return { name, file: node, args, count: () => vitestCounts(report) };
}

function selectSteps(command, steps, wanted) {
  const unknown = wanted.filter((name) => !steps.some((step) => step.name === name));
  if (unknown.length > 0) {
    throw new SetUpFailed(`There is no step ${unknown.join(", ")}.`, [
      `${command} -- ${steps.map((step) => step.name).join(" | ")}`,
    ]);
  }
  return steps.filter((step) => (wanted.length === 0 ? step.onlyByName !== true : wanted.includes(step.name)));
}

async function runStep(step, env) {
  say(`\n── ${step.name}`);
  const started = performance.now();
  const file = typeof step.file === "string" ? step.file : await step.file();
  const code = await show(file, step.args, { cwd: step.cwd ?? root, env, stdio: ["ignore", 2, 2] });
  const seconds = (performance.now() - started) / 1000;
  say(`── ${step.name}: ${code === 0 ? "passed" : `failed (${code})`} in ${seconds.toFixed(1)} s`);
  const counted = step.count?.() ?? NOTHING;
  // A step that fails without a failing test (a lint finding, a crash while collecting) is itself a failure.
  const failed = code !== 0 ? Math.max(1, counted.failed) : counted.failed;
  const failures = failed > 0 && counted.failures.length === 0 ? [`ended with ${code}`] : counted.failures;
  return { name: step.name, passed: counted.passed, failed, failures, seconds, interrupted: code === 130 || code === 143 };
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
  if (report === null) return NOTHING;
  const { numPassedTests, testResults } = JSON.parse(report);
  const failures = testResults.flatMap((file) => failuresOf(file).map((name) => `${relative(root, file.name)}: ${name}`));
  return { passed: numPassedTests, failed: failures.length, failures };
}

/** The failed tests of a file, each with why; of a file that failed as a whole (an import, a hook), only why. */
function failuresOf({ status, message, assertionResults }) {
  const reason = (text) => text.split("\n", 1)[0];
  const failed = assertionResults.filter((test) => test.status === "failed");
  if (failed.length > 0) {
    return failed.map((test) => `${[...test.ancestorTitles, test.title].join(" > ")}: ${reason(test.failureMessages[0] ?? "")}`);
  }
  return status === "failed" ? [reason(message)] : [];
}

function pytestCounts(path) {
  const report = readReport(path) ?? "";
  const number = (name) => Number(new RegExp(`<testsuite [^>]*\\b${name}="(\\d+)"`).exec(report)?.[1] ?? 0);
  const failed = number("failures") + number("errors");
  const cases = report.matchAll(/<testcase classname="([^"]*)" name="([^"]*)"[^>]*><(?:failure|error)/g);
  const failures = Array.from(cases, ([, file, test]) => `${file}: ${test}`);
  return { passed: number("tests") - failed - number("skipped"), failed, failures };
}

/** Null when the step died before it could write one. */
function readReport(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}
