/**
 * The one entry behind `npm run quickstart`, `npm test` and `npm run build`: from a clean clone to a set-up checkout, then on.
 * Needs nothing but Node 20, npm and Python 3.11; what was done before for the same locks is skipped.
 */
import { realpathSync } from "node:fs";
import { join } from "node:path";
import { build } from "./build/build.mjs";
import { installPackages, projectNode } from "./setup/node.mjs";
import {
  developmentEnvironment,
  ensureEnvironment,
  ensureLongEnvironment,
  findPython,
  runtimeEnvironment,
} from "./setup/python.mjs";
import { root, say, SetUpFailed, show } from "./setup/run.mjs";

const usage = "Usage: node scripts/bootstrap.mjs quickstart | test [step ...] | long [step ...] [--record] | build | python";

/**
 * What follows the set-up. `runtime` is the Python that runs the services.
 * @typedef {{ node: string, python: { executable: string, tag: string }, runtime: string }} Tools
 * @type {Readonly<Record<string, (tools: Tools, args: readonly string[]) => Promise<number>>>}
 */
const tasks = {
  quickstart: ({ node }, args) => show(node, [join(root, "scripts/quickstart.mjs"), ...args], { cwd: root }),
  async test(tools, args) {
    const { runChecks } = await import("./setup/checks.mjs");
    return runChecks({ ...tools, development: await developmentPython(tools) }, args);
  },
  async long(tools, args) {
    const { runLong } = await import("./setup/long.mjs");
    const long = () => ensureLongEnvironment(tools.python);
    return runLong({ ...tools, development: await developmentPython(tools), long }, args);
  },
  build: () => Promise.resolve(0),
  async python(tools) {
    process.stdout.write(`${tools.runtime}\n${await developmentPython(tools)}\n`);
    return 0;
  },
};

async function main([name = "", ...args]) {
  const task = tasks[name];
  if (task === undefined) throw new SetUpFailed(usage);
  const python = await findPython();
  // Only what checks everything needs what only users of `infra/` need.
  await installPackages({ infra: name === "test" });
  const node = await projectNode();
  if (realpathSync(node) !== realpathSync(process.execPath)) return respawn(node, [name, ...args]);
  const runtime = await ensureEnvironment(python, runtimeEnvironment(python.tag), ["runtime.txt"]);
  await build({ node, python: runtime });
  return task({ node, python, runtime }, args);
}

function developmentPython({ python }) {
  return ensureEnvironment(python, developmentEnvironment(python.tag), ["runtime.txt", "dev.txt"]);
}

/** Starts over on the checkout's own Node; it comes first on PATH, so that everything below uses it too. */
function respawn(node, args) {
  const env = { ...process.env, PATH: `${join(root, "node_modules/.bin")}:${process.env.PATH}` };
  return show(node, [join(root, "scripts/bootstrap.mjs"), ...args], { env });
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  say(error instanceof SetUpFailed ? error.message : error.stack);
  process.exitCode = 1;
}
