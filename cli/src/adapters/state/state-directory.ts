import { chmod, lstat, mkdir } from "node:fs/promises";
import { Failed, PreflightRefused } from "../../domain/errors.js";
import { storageFailure } from "./storage-failure.js";

/**
 * Makes a private directory (0700) and its parents, or accepts an existing one that only this user can write.
 * Whoever can write here decides what the next deploy runs, so anything else is refused.
 */
export async function ensurePrivateDirectory(path: string, uid: number): Promise<void> {
  try {
    const made = await mkdir(path, { recursive: true, mode: 0o700 });
    if (made !== undefined) await chmod(path, 0o700);
  } catch (error) {
    throw storageFailure("could not create the directory", path, error);
  }
  await assertPrivateDirectory(path, uid);
}

/** Throws when a directory belongs to somebody else or others can write it; one that is absent is fine. */
export async function assertPrivateDirectory(path: string, uid: number): Promise<void> {
  const found = await lstat(path).catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw storageFailure("could not read the directory", path, error);
  });
  if (found === null) return;
  if (!found.isDirectory()) throw new Failed(`${path} is not a directory`, { nextSteps: [`rm ${path}`] });
  if (found.uid !== uid) {
    throw new PreflightRefused(`${path} belongs to another user`, {
      because: `its owner has uid ${found.uid.toString()} and this is uid ${uid.toString()}; whoever owns it decides what runs`,
      nextSteps: ["run gpuctl as the user who deployed this environment", "or set GPUCTL_STATE_HOME to a directory of your own"],
    });
  }
  if ((found.mode & 0o022) !== 0) {
    throw new PreflightRefused(`${path} can be written by others`, {
      because: `its mode is ${(found.mode & 0o777).toString(8)}, so another user could change what the next deploy runs`,
      nextSteps: [`chmod 700 ${path}`, "then check its contents, and run the command again"],
    });
  }
}
