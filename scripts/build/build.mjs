/** What a checkout needs to run and a package to carry: dist/, oclif.manifest.json, the root help, the Python wheel. */
import { cpSync, existsSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { attempt, capture, root, say } from "../setup/run.mjs";
import { hashOf, Stamp } from "../setup/stamp.mjs";
import { buildWheel } from "./wheel.mjs";

const dist = join(root, "dist");
const made = [join(dist, "help.txt"), join(dist, "main.js"), join(root, "oclif.manifest.json")];

/** @param {{ node: string, python: string }} tools */
export async function build({ node, python }) {
  const stamp = new Stamp("cli", hashOf(["cli/src", "package.json", "tsconfig.json", "scripts/build"]));
  if (!stamp.fresh() || !made.every(existsSync)) {
    say("building the command line");
    await compile(node);
    await capture(node, [join(root, "scripts/build/manifest.mjs")], { cwd: root });
    stamp.write();
  }
  await buildWheel(python);
  await noteRevision();
}

/** The commit of what is packed, for the labels of images that an installed package builds. A checkout asks git itself. */
async function noteRevision() {
  const noted = join(dist, "revision.json");
  rmSync(noted, { force: true });
  const log = await attempt("git", ["log", "-1", "--format=%H %cI"], { cwd: root });
  const [revision = "", created = null] = log.stdout.trim().split(" ");
  if (log.code !== 0 || !/^[0-9a-f]{40,64}$/.test(revision)) return;
  const changed = await attempt("git", ["status", "--porcelain", "--", "compose/services"], { cwd: root });
  const dirty = changed.stdout.trim() === "" ? "" : "-dirty";
  writeFileSync(noted, `${JSON.stringify({ revision: `${revision}${dirty}`, created })}\n`);
}

/**
 * Compiles beside the running build and swaps: a command started meanwhile finds the old files or the new ones.
 * Types are checked by `npm test`; somebody who only wants to run it need not wait for that.
 */
async function compile(node) {
  const [next, old] = [`${dist}.next`, `${dist}.old`];
  rmSync(next, { recursive: true, force: true });
  await capture(node, [join(root, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.json", "--noCheck", "--outDir", next], {
    cwd: root,
  });
  for (const kept of ["python", "help.txt"]) {
    if (existsSync(join(dist, kept))) cpSync(join(dist, kept), join(next, kept), { recursive: true });
  }
  rmSync(old, { recursive: true, force: true });
  if (existsSync(dist)) renameSync(dist, old);
  renameSync(next, dist);
  rmSync(old, { recursive: true, force: true });
}
