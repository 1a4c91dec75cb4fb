import { constants } from "node:fs";
import { access, stat, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import type { DiskFacts } from "../../domain/doctor/facts.js";
import { errorCode } from "../state/storage-failure.js";

/** Room and permission at a folder that may not exist yet: those of the nearest one above that does. */
export async function inspectDisk(purpose: DiskFacts["purpose"], path: string): Promise<DiskFacts> {
  const existing = await nearestExisting(path);
  try {
    if (!(await stat(existing)).isDirectory())
      return { purpose, path, freeBytes: null, writable: false, detail: `${existing} is not a folder` };
    await access(existing, constants.W_OK | constants.X_OK);
  } catch (error) {
    return {
      purpose,
      path,
      freeBytes: null,
      writable: false,
      detail: `${existing}: ${reasons[errorCode(error)] ?? errorCode(error)}`,
    };
  }
  try {
    const { bavail, bsize } = await statfs(existing);
    return { purpose, path, freeBytes: bavail * bsize, writable: true, detail: null };
  } catch (error) {
    return { purpose, path, freeBytes: null, writable: true, detail: errorCode(error) };
  }
}

const reasons: Readonly<Record<string, string>> = { EACCES: "permission denied", EROFS: "the file system is read-only" };

async function nearestExisting(path: string): Promise<string> {
  for (let folder = path; ; folder = dirname(folder)) {
    const found = await stat(folder).then(
      () => true,
      (error: unknown) => errorCode(error) !== "ENOENT",
    );
    if (found || dirname(folder) === folder) return folder;
  }
}
