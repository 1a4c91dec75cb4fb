import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { ConfigInvalid, Failed } from "../../domain/errors.js";
import type { Sha256 } from "../../domain/names.js";
import type { CodeSource } from "../../ports.js";
import type { Environment } from "../state/directories.js";
import { errorCode } from "../state/storage-failure.js";

/** What this gpuctl would deploy, with the places the driver copies it from. */
export interface PackagedCode {
  wheel: Sha256;
  /** File name; a record says nothing about this machine's folders. */
  file: string;
  version: string;
  /** Hash of the Python lock. */
  lock: Sha256;
  /** Where the wheel lies now. */
  path: string;
  /** Where the Python lock lies now. */
  lockPath: string;
}

/** The wheel and the Python lock inside the installed package; `GPUCTL_WHEEL` names another wheel to deploy instead. */
export class PackageCodeSource implements CodeSource {
  readonly #packageRoot: string;
  readonly #override: string | null;

  constructor(packageRoot: string, env: Environment) {
    this.#packageRoot = packageRoot;
    const override = env["GPUCTL_WHEEL"] ?? "";
    this.#override = override === "" ? null : resolve(override);
  }

  async current(): Promise<PackagedCode> {
    const lockPath = join(this.#packageRoot, "compose/services/locks/runtime.txt");
    const [wheel, lock] = await Promise.all([
      this.#override === null ? this.#bundled() : override(this.#override),
      hashFile(lockPath),
    ]);
    return { ...wheel, file: basename(wheel.path), lock, lockPath };
  }

  /** `dist/python/wheel.json` is written with the wheel by the build: `{"file", "version", "sha256"}`. */
  async #bundled(): Promise<{ path: string; wheel: Sha256; version: string }> {
    const index = join(this.#packageRoot, "dist/python/wheel.json");
    try {
      const { file, version, sha256 } = JSON.parse(await readFile(index, "utf8")) as {
        file: string;
        version: string;
        sha256: Sha256;
      };
      const path = join(this.#packageRoot, "dist/python", basename(file));
      const found = await hashFile(path);
      if (found === sha256) return { path, wheel: found, version };
      throw new Failed(`the wheel of this gpuctl is damaged: ${path}`, {
        because: `its hash is ${found.slice(0, 12)}, and the package says ${sha256.slice(0, 12)}`,
        nextSteps: ["install gpuctl again", "in a clone: npm run build"],
      });
    } catch (error) {
      if (errorCode(error) !== "ENOENT") throw error;
      throw new Failed("this gpuctl has no code to deploy", {
        because: `${index} or the wheel it names is missing`,
        nextSteps: ["in a clone: npm run build", "else install gpuctl again"],
        cause: error,
      });
    }
  }
}

async function override(path: string): Promise<{ path: string; wheel: Sha256; version: string }> {
  const version = /^[A-Za-z0-9_.]+-([^-]+)-.*\.whl$/.exec(basename(path))?.[1];
  try {
    const wheel = await hashFile(path);
    return { path, wheel, version: version ?? "unknown" };
  } catch (cause) {
    throw new ConfigInvalid(`GPUCTL_WHEEL names a file that cannot be read: ${path}`, {
      because: cause instanceof Error ? cause.message : String(cause),
      nextSteps: ["unset GPUCTL_WHEEL to deploy the wheel of this gpuctl"],
      cause,
    });
  }
}

async function hashFile(path: string): Promise<Sha256> {
  return createHash("sha256")
    .update(await readFile(path))
    .digest("hex");
}
