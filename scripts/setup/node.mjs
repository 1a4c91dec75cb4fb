/** Node packages of the checkout, and the Node that runs everything after them. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { attempt, root, say, SetUpFailed, show } from "./run.mjs";
import { hashOf, Stamp } from "./stamp.mjs";

const oldest = [22, 19];
const nodeBin = join(root, "node_modules/.bin/node");

/** Installs what package-lock.json says, when it is not there yet. */
export async function installPackages() {
  const { code } = await attempt("npm", ["--version"]);
  if (code !== 0)
    throw new SetUpFailed("npm is missing: it comes with Node.", [
      "install Node 24 from https://nodejs.org, or: apt-get install npm",
    ]);
  const stamp = new Stamp("npm", hashOf(["package-lock.json", ".npmrc"], [process.platform, process.arch]));
  if (stamp.fresh() && existsSync(nodeBin)) return;
  say("installing Node packages (npm ci, about half a minute)");
  // npm's warnings here are about the system's Node being older than the one that is being installed.
  const status = await show("npm", ["ci", "--workspaces=false", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: root,
    stdio: ["ignore", 2, 2],
  });
  if (status !== 0)
    throw new SetUpFailed("npm ci failed; its own words are above.", [
      "check that the npm registry can be reached",
      "npm ci --workspaces=false",
    ]);
  stamp.write();
}

/**
 * The Node of the checkout (a dev dependency, because Linux distributions carry older ones).
 * @returns {Promise<string>} path of a Node that is new enough
 */
export async function projectNode() {
  const { code, stdout } = await attempt(nodeBin, ["--version"]);
  if (code === 0 && isNewEnough(stdout)) return nodeBin;
  if (isNewEnough(process.version)) return process.execPath;
  const found = code === 0 ? `is ${stdout.trim()}` : "is missing";
  throw new SetUpFailed(`node_modules/.bin/node ${found}, and Node ${oldest.join(".")} or newer is needed.`, [
    "npm config get ignore-scripts   (must be false: the package `node` fetches its binary when it is installed)",
    "rm -r node_modules .stamp, then run this again",
    "or install Node 24 from https://nodejs.org",
  ]);
}

function isNewEnough(version) {
  const [major = 0, minor = 0] = version.trim().replace(/^v/, "").split(".").map(Number);
  return major > oldest[0] || (major === oldest[0] && minor >= oldest[1]);
}
