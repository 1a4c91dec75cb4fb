/** The steps of `npm test`. */
import { join } from "node:path";
import { ensureClientsEnvironment } from "./python.mjs";
import { root } from "./run.mjs";
import { pytestStep, runSteps, services, vitestStep } from "./steps.mjs";

/**
 * @param {import("./steps.mjs").Tools} tools
 * @param {readonly string[]} wanted names of steps; none means all but the root tiers and the clients
 * @returns {Promise<number>} exit code
 */
export function runChecks(tools, wanted) {
  return runSteps("npm test", (scratch) => stepsOf(tools, scratch), tools, wanted);
}

function stepsOf({ node, python: found, development }, scratch) {
  const tool = (name, path, ...args) => ({ name, file: node, args: [join(root, "node_modules", path), ...args] });
  const python = (name, ...args) => ({ name, file: development, args: ["-m", ...args], cwd: services });
  const vitest = (name) => vitestStep(name, node, scratch);
  return [
    tool("eslint", "eslint/bin/eslint.js", "."),
    tool("prettier", "prettier/bin/prettier.cjs", "--check", "--log-level=warn", "."),
    tool("knip", "knip/bin/knip.js"),
    tool("types", "typescript/bin/tsc", "--noEmit", "-p", "tsconfig.test.json"),
    python("ruff", "ruff", "check", "."),
    python("ruff-format", "ruff", "format", "--check", "."),
    python("mypy", "mypy"),
    vitest("unit"),
    pytestStep("pytest", development, join(scratch, "pytest.xml")),
    { ...vitest("e2e"), needsModels: true },
    { ...vitest("root"), needsModels: true, onlyByName: true },
    { ...vitest("docker"), needsModels: true, onlyByName: true },
    { ...vitest("infra"), onlyByName: true },
    // The real clients live in an environment of their own, made when they are first asked for.
    {
      ...pytestStep("clients", () => ensureClientsEnvironment(found), join(scratch, "clients.xml"), "tests_clients"),
      onlyByName: true,
    },
  ];
}
