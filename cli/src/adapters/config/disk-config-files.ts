import { constants } from "node:fs";
import { lstat, open, realpath, unlink, type FileHandle } from "node:fs/promises";
import { dirname, isAbsolute, join, relative, resolve } from "node:path";
import type { SourceDocument } from "../../domain/config/source.js";
import { ConfigInvalid, Failed } from "../../domain/errors.js";
import type { ConfigFiles } from "../../ports.js";
import { decodeUtf8 } from "./decode.js";
import { parseYaml } from "./yaml-source.js";

/** Far more than any real project file, and little enough to be parsed at once. */
const maxBytes = 256 * 1024;
const fileName = "gpuctl.yaml";

/** Configuration files on this machine. `cwd` only shortens the names that people see. */
export class DiskConfigFiles implements ConfigFiles {
  readonly #cwd: string;

  constructor(cwd: string) {
    this.#cwd = cwd;
  }

  absolute(path: string, cwd: string): string {
    return isAbsolute(path) ? path : resolve(cwd, path);
  }

  async find(from: string): Promise<{ found: string } | { found: null; searched: readonly string[]; nearMiss: string | null }> {
    const searched: string[] = [];
    let nearMiss: string | null = null;
    for (let folder = resolve(from); ; folder = dirname(folder)) {
      searched.push(folder);
      if (await exists(join(folder, fileName))) return { found: join(folder, fileName) };
      for (const name of ["gpuctl.yml", "gpuctl.json", "gpuctl.toml"])
        if (!nearMiss && (await exists(join(folder, name)))) nearMiss = join(folder, name);
      if (dirname(folder) === folder || (await exists(join(folder, ".git")))) return { found: null, searched, nearMiss };
    }
  }

  async read(path: string): Promise<{ realPath: string; document: SourceDocument } | null> {
    const shown = shorter(path, this.#cwd);
    let file: FileHandle;
    try {
      // Never blocks on a pipe that somebody put there.
      file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (error) {
      if (isCode(error, "ENOENT") || isCode(error, "ENOTDIR")) return null;
      throw unreadable(shown, error);
    }
    try {
      const info = await file.stat();
      if (!info.isFile()) throw notAFile(shown, info.isDirectory());
      if (info.size > maxBytes) throw tooLarge(shown, info.size);
      const text = decodeUtf8(shown, await file.readFile());
      return { realPath: await realpath(path), document: parseYaml(shown, text) };
    } catch (error) {
      throw error instanceof ConfigInvalid ? error : unreadable(shown, error);
    } finally {
      await file.close();
    }
  }

  async create(path: string, text: string): Promise<boolean> {
    let file: FileHandle;
    try {
      file = await open(path, "wx", 0o644);
    } catch (error) {
      if (isCode(error, "EEXIST")) return false;
      throw new Failed(`${shorter(path, this.#cwd)} cannot be written`, {
        because: reason(error),
        nextSteps: ["choose a folder that exists and is yours: gpuctl init --path FOLDER"],
        cause: error,
      });
    }
    try {
      await file.writeFile(text);
      await file.sync();
    } catch (error) {
      // Half a file would be refused by every command, and would stand in the way of the next init.
      await unlink(path);
      throw new Failed(`${shorter(path, this.#cwd)} cannot be written`, {
        because: reason(error),
        nextSteps: ["df -h shows which disk is full"],
        cause: error,
      });
    } finally {
      await file.close();
    }
    return true;
  }
}

/** A folder or a dangling link of that name is found too: reading it then says what is wrong, instead of searching past it. */
const exists = (path: string): Promise<boolean> =>
  lstat(path).then(
    () => true,
    () => false,
  );

/** The path as a person in `cwd` would type it, when that is shorter. */
function shorter(path: string, cwd: string): string {
  const short = relative(cwd, path);
  return short !== "" && short.length < path.length && !short.startsWith("../../..") ? short : path;
}

const isCode = (error: unknown, code: string): boolean => error instanceof Error && "code" in error && error.code === code;

/** Node's message without its code, system call and path, which are said already. */
function reason(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.replace(/^[A-Z0-9]+: /, "").replace(/, \w+( '.*')?$/, "");
}

const unreadable = (file: string, cause: unknown): ConfigInvalid =>
  new ConfigInvalid(`${file} cannot be read`, {
    because: reason(cause),
    nextSteps: [`ls -l ${file}`, "or name another file: --config FILE"],
    cause,
  });

const notAFile = (file: string, directory: boolean): ConfigInvalid =>
  new ConfigInvalid(`${file} is ${directory ? "a folder" : "no regular file"}`, {
    because: "the project file must be a file with YAML text",
    nextSteps: [directory ? `--config ${file}/gpuctl.yaml` : "--config FILE"],
  });

const tooLarge = (file: string, bytes: number): ConfigInvalid =>
  new ConfigInvalid(`${file} is too large: ${(bytes / 2 ** 20).toFixed(1)} MiB`, {
    because: `a project file holds at most ${maxBytes / 1024} KiB`,
    nextSteps: ["check that --config names the right file"],
  });
