import { link, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { syncDirectory, writeTemporary } from "../files/write-atomic.js";
import { errorCode } from "./storage-failure.js";

/**
 * Creates a file with all its content, or not at all, unless the name exists: then it answers false and changes nothing.
 * The name is given by a hard link, which is the one step that fails when somebody else was first.
 */
export async function createOnce(path: string, data: string | Uint8Array, mode = 0o600): Promise<boolean> {
  const temporary = await writeTemporary(path, data, mode);
  try {
    await link(temporary, path);
  } catch (error) {
    if (errorCode(error) === "EEXIST") return false;
    throw error;
  } finally {
    await rm(temporary, { force: true });
  }
  await syncDirectory(dirname(path));
  return true;
}
