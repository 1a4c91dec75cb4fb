import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { Failed } from "../../domain/errors.js";
import type { Sha256 } from "../../domain/names.js";
import { writeAtomic } from "../files/write-atomic.js";
import { storageFailure } from "../state/storage-failure.js";
import type { PackagedCode } from "./packaged-code.js";

/** Copies a wheel to a place of its own, unless it is there and whole. What was hashed is what is written: it is read once. */
export async function placeWheel(code: Pick<PackagedCode, "path" | "wheel">, target: string): Promise<void> {
  const present = await readFile(target).catch(() => null);
  if (present !== null && sha256(present) === code.wheel) return;
  const data = await readFile(code.path);
  if (sha256(data) !== code.wheel) {
    throw new Failed(`${code.path} changed while it was copied`, { nextSteps: ["run the command again"] });
  }
  await writeAtomic(target, data);
}

const keptForMs = 7 * 86_400_000;

/**
 * The wheel of this gpuctl under its hash in the cache, for running it directly. A wheel is read lazily, so one that an
 * upgrade replaces in place would break whatever runs from it.
 */
export async function cachedWheel(code: PackagedCode, cache: string, now: Date): Promise<string> {
  const directory = join(cache, "wheels");
  const target = join(directory, `${code.wheel}.whl`);
  try {
    await mkdir(directory, { recursive: true });
    await placeWheel(code, target);
    for (const name of await readdir(directory)) {
      const file = join(directory, name);
      const age =
        now.getTime() -
        (await stat(file).then(
          (found) => found.mtimeMs,
          () => now.getTime(),
        ));
      if (file !== target && age > keptForMs) await rm(file, { force: true });
    }
    return target;
  } catch (error) {
    throw storageFailure("could not copy the code of this gpuctl", target, error);
  }
}

const sha256 = (data: Buffer): Sha256 => createHash("sha256").update(data).digest("hex");
