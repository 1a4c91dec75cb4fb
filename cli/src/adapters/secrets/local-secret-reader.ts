import { readFile, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import type { SecretSource } from "../../domain/config/resolved.js";
import { ConfigInvalid } from "../../domain/errors.js";
import type { Progress, SecretReader } from "../../ports.js";
import type { Environment } from "../state/directories.js";
import { errorCode } from "../state/storage-failure.js";

/** Reads secrets from variables of this process and from files; a relative file counts from gpuctl.yaml. */
export class LocalSecretReader implements SecretReader {
  readonly #env: Environment;
  readonly #base: string;
  readonly #progress: Progress;

  constructor(env: Environment, projectFile: string, progress: Progress) {
    this.#env = env;
    this.#base = dirname(projectFile);
    this.#progress = progress;
  }

  async read(name: string, source: SecretSource): Promise<string> {
    return "env" in source ? this.#fromEnv(name, source.env) : this.#fromFile(name, resolve(this.#base, source.file));
  }

  #fromEnv(name: string, variable: string): string {
    const value = this.#env[variable];
    if (value !== undefined && value !== "") return value;
    throw new ConfigInvalid(`the secret ${name} has no value`, {
      because: `the variable ${variable} is ${value === undefined ? "not set" : "empty"}`,
      nextSteps: [`export ${variable}=...`, `or name a file: secrets: { ${name}: { file: path } }`],
    });
  }

  async #fromFile(name: string, file: string): Promise<string> {
    try {
      const { mode } = await stat(file);
      if ((mode & 0o077) !== 0) {
        const text = `the secret file ${file} can be read by others (mode ${(mode & 0o777).toString(8)}): chmod 600 ${file}`;
        this.#progress.emit({ kind: "warning", text });
      }
      // Editors end a file with a newline that is no part of the secret; a second one is.
      const value = (await readFile(file, "utf8")).replace(/\r?\n$/, "");
      if (value !== "") return value;
    } catch (error) {
      throw this.#missing(name, file, errorCode(error) === "ENOENT" ? "there is no such file" : (error as Error).message, error);
    }
    throw this.#missing(name, file, "the file is empty");
  }

  #missing(name: string, file: string, why: string, cause?: unknown): ConfigInvalid {
    return new ConfigInvalid(`the secret ${name} cannot be read from ${file}`, {
      because: why,
      nextSteps: [`write the value into ${file} and chmod 600 it`, "gpuctl config validate"],
      cause,
    });
  }
}
