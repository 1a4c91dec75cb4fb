/** Node packages of the checkout, and the Node that runs everything after them. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { attempt, root, say, SetUpFailed, show } from "./run.mjs";
import { hashOf, Stamp } from "./stamp.mjs";

const oldest = [22, 19];
const nodeBin = join(root, "node_modules/.bin/node");
const pulumiSdk = join(root, "node_modules/@pulumi/pulumi/package.json");

/**
 * Installs what package-lock.json says, when it is not there yet. Pulumi's SDKs belong to the workspace `infra` and come only when
 * they are asked for; a checkout that has them keeps them.
 * @param {{ infra: boolean }} wanted
 */
export async function installPackages({ infra }) {
  const { code } = await attempt("npm", ["--version"]);
  if (code !== 0)
    throw new SetUpFailed("npm is missing: it comes with Node.", [
      "install Node 24 from https://nodejs.org, or: apt-get install npm",
    ]);
  const locks = hashOf(["package-lock.json", ".npmrc"], [process.platform, process.arch]);
  const stamps = { base: new Stamp("npm", locks), infra: new Stamp("npm-infra", locks) };
  const there = { base: stamps.base.fresh() && existsSync(nodeBin), infra: existsSync(pulumiSdk) };
  if (there.base && !infra) return;
  if (there.base && there.infra && stamps.infra.fresh()) return;
  const all = infra || there.infra;
  if (there.base) {
    say("installing Pulumi's SDKs beside the Node packages (about a quarter of a minute)");
    // Adds what is missing and takes nothing away; --no-save leaves package-lock.json as it is.
    await npm(["install", "--no-save"]);
  } else {
    say("installing Node packages (npm ci, about half a minute)");
    await npm(all ? ["ci"] : ["ci", "--workspaces=false"]);
  }
  stamps.base.write();
  if (all) stamps.infra.write();
}

async function npm(args) {
  // npm's warnings here are about the system's Node being older than the one that is being installed.
  const status = await show("npm", [...args, "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: root,
    stdio: ["ignore", 2, 2],
  });
  if (status !== 0)
    throw new SetUpFailed(`npm ${args[0]} failed; its own words are above.`, [
      "check that the npm registry can be reached",
      `npm ${args.join(" ")}`,
    ]);
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
