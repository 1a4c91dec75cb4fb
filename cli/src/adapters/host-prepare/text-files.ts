import { readFile, realpath, stat } from "node:fs/promises";
import { resolve } from "node:path";
import { Failed, UsageError } from "../../domain/errors.js";
import type { TextFiles } from "../../ports/host-preparer.js";
import { writeAtomic } from "../files/write-atomic.js";

/** Text files of this machine; paths count from a folder. */
export class DiskTextFiles implements TextFiles {
  readonly #cwd: string;

  constructor(cwd: string) {
    this.#cwd = cwd;
  }

  async read(path: string): Promise<string> {
    try {
      return await readFile(resolve(this.#cwd, path), "utf8");
    } catch (error) {
      throw new UsageError(`${path} cannot be read`, { because: (error as Error).message, cause: error });
    }
  }

  async replace(path: string, before: string, after: string): Promise<void> {
    // Through a link, so that the file of a shared folder is changed and not replaced by a copy.
    const real = await realpath(resolve(this.#cwd, path));
    if ((await this.read(real)) !== before)
      throw new Failed(`${path} was changed meanwhile`, { because: "somebody else wrote it", nextSteps: ["run it again"] });
    try {
      await writeAtomic(real, after, (await stat(real)).mode & 0o777);
    } catch (error) {
      throw new Failed(`${path} cannot be written`, {
        because: (error as Error).message,
        nextSteps: [`ls -l ${path}; df -h`],
        cause: error,
      });
    }
  }
}
