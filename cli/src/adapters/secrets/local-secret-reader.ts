import { readFile, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import type { SecretSource } from "../../domain/config/resolved.js";
import { ConfigInvalid, Failed } from "../../domain/errors.js";
import type { Redaction } from "../../domain/redaction.js";
import { ms } from "../../domain/units.js";
import type { CommandResult, Executor, Progress, SecretReader } from "../../ports.js";
import type { Environment } from "../state/directories.js";
import { errorCode } from "../state/storage-failure.js";

/** A password manager asks its agent; one that waits for a person has nobody to ask here. */
const commandDeadline = ms(10_000);

export interface LocalSecretReaderOptions {
  env: Environment;
  /** gpuctl.yaml: relative paths count from its folder, and commands run there. */
  projectFile: string;
  progress: Progress;
  executor: Executor;
  /** Takes every value that is read. */
  redaction: Redaction;
}

/** Reads secrets from variables of this process, from files and from what commands print; relative paths count from gpuctl.yaml. */
export class LocalSecretReader implements SecretReader {
  readonly #env: Environment;
  readonly #base: string;
  readonly #progress: Progress;
  readonly #executor: Executor;
  readonly #redaction: Redaction;

  constructor(options: LocalSecretReaderOptions) {
    this.#env = options.env;
    this.#base = dirname(options.projectFile);
    this.#progress = options.progress;
    this.#executor = options.executor;
    this.#redaction = options.redaction;
  }

  async read(name: string, source: SecretSource): Promise<string> {
    const value = await this.#value(name, source);
    this.#redaction.note(value);
    return value;
  }

  async #value(name: string, source: SecretSource): Promise<string> {
    if ("env" in source) return this.#fromEnv(name, source.env);
    if ("command" in source) return this.#fromCommand(name, source.command);
    return this.#fromFile(name, resolve(this.#base, source.file));
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

  /** By a shell, because people write what they type: `pass show shop/keys | head -n 1`. Nothing of its output is ever repeated. */
  async #fromCommand(name: string, command: string): Promise<string> {
    const result = await this.#run(name, command);
    const value = result.stdout.replace(/\r?\n$/, "");
    if (result.code === 0 && value !== "") return value;
    const ended =
      result.code === null ? `was ended by ${result.signal ?? "a signal"}` : `ended with status ${result.code.toString()}`;
    throw this.#withoutValue(name, command, result.code === 0 ? "it printed nothing" : `it ${ended}`);
  }

  async #run(name: string, command: string): Promise<CommandResult> {
    try {
      return await this.#executor.run({ argv: ["sh", "-c", command], cwd: this.#base }, { deadline: commandDeadline });
    } catch (error) {
      // A failed command's own error tells its last words, which may be the secret.
      const late = error instanceof Failed;
      throw this.#withoutValue(name, command, late ? "it did not end within 10 s" : "it could not be started");
    }
  }

  #withoutValue(name: string, command: string, why: string): ConfigInvalid {
    return new ConfigInvalid(`the secret ${name} is not given by its command`, {
      because: `${command}: ${why}`,
      nextSteps: [`${command} >/dev/null; echo $?   # in ${this.#base}`],
    });
  }

  #missing(name: string, file: string, why: string, cause?: unknown): ConfigInvalid {
    return new ConfigInvalid(`the secret ${name} cannot be read from ${file}`, {
      because: why,
      nextSteps: [`write the value into ${file} and chmod 600 it`, "gpuctl config validate"],
      cause,
    });
  }
}
