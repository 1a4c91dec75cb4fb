/** A stamp says that a step was done for exactly these inputs, so that the second set-up skips it. */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "./run.mjs";

const directory = join(root, ".stamp");

export class Stamp {
  #path;
  #inputs;

  /**
   * @param {string} name
   * @param {string} inputs hash of everything the step depends on
   */
  constructor(name, inputs) {
    this.#path = join(directory, name);
    this.#inputs = inputs;
  }

  fresh() {
    return existsSync(this.#path) && readFileSync(this.#path, "utf8") === this.#inputs;
  }

  /** Written last: a step that was interrupted has no stamp. */
  write() {
    mkdirSync(directory, { recursive: true });
    writeFileSync(this.#path, this.#inputs);
  }
}

/**
 * Hash of names and contents, in a fixed order.
 * @param {readonly string[]} paths files or directories, relative to the repository
 * @param {readonly string[]} more further facts, such as versions
 */
export function hashOf(paths, more = []) {
  const hash = createHash("sha256");
  for (const path of paths.flatMap(filesBelow).sort()) {
    hash
      .update(`${path}\0`)
      .update(readFileSync(join(root, path)))
      .update("\0");
  }
  for (const fact of more) hash.update(`${fact}\0`);
  return hash.digest("hex");
}

function filesBelow(path) {
  const full = join(root, path);
  if (!existsSync(full)) return [];
  if (statSync(full).isFile()) return [path];
  return readdirSync(full, { withFileTypes: true })
    .filter((entry) => entry.name !== "__pycache__" && !entry.name.startsWith("."))
    .flatMap((entry) => filesBelow(join(path, entry.name)));
}
