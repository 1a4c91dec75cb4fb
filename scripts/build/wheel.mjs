/** The Python services as one wheel in dist/python/: what a deploy stages, and what the npm package carries. */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { capture, root, say, SetUpFailed } from "../setup/run.mjs";
import { hashOf, Stamp } from "../setup/stamp.mjs";

const target = join(root, "dist/python");
const description = join(target, "wheel.json");

/**
 * Builds the wheel when its sources have changed. The same sources give the same bytes, and so the same release.
 * @param {string} python one with pip, which the system's may lack
 */
export async function buildWheel(python) {
  const stamp = new Stamp(
    "wheel",
    hashOf(["compose/services/src", "compose/services/pyproject.toml", "scripts/build/wheel.mjs"]),
  );
  if (stamp.fresh() && existsSync(description)) return;
  say("building the Python wheel");
  const scratch = mkdtempSync(join(tmpdir(), "gpuctl-wheel-"));
  try {
    // The date is fixed because a wheel is a zip, and a zip holds dates.
    const env = { ...process.env, SOURCE_DATE_EPOCH: "1577836800", PYTHONDONTWRITEBYTECODE: "1" };
    const args = [
      "-m",
      "pip",
      "wheel",
      "--quiet",
      "--disable-pip-version-check",
      "--no-deps",
      "--wheel-dir",
      scratch,
      join(root, "compose/services"),
    ];
    await capture(python, args, { env });
    publish(scratch);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  stamp.write();
}

function publish(scratch) {
  const file = readdirSync(scratch).find((name) => name.endsWith(".whl"));
  if (file === undefined) throw new SetUpFailed("pip built no wheel from compose/services.");
  const bytes = readFileSync(join(scratch, file));
  mkdirSync(target, { recursive: true });
  replace(join(target, file), bytes);
  const version = file.split("-")[1];
  replace(
    description,
    `${JSON.stringify({ file, sha256: createHash("sha256").update(bytes).digest("hex"), version }, null, 2)}\n`,
  );
  for (const old of readdirSync(target)) {
    if (old.endsWith(".whl") && old !== file) rmSync(join(target, old));
  }
}

/** In one step: a deploy that runs meanwhile reads the old file or the new one. */
function replace(path, data) {
  writeFileSync(`${path}.tmp`, data);
  renameSync(`${path}.tmp`, path);
}
