import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/**
 * An account of this machine that says it is not root, with a `sudo` that remembers what it was asked: tests need neither. As the
 * real one it has what it runs as a child, and ends as that did.
 */
export class SudoStandIn {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
    mkdirSync(join(folder, "bin"), { recursive: true });
    this.#program("id", "echo 1000");
    this.allow();
  }

  /** Where commands find both, and everything else. */
  get path(): string {
    return `${join(this.#folder, "bin")}:${process.env["PATH"] ?? ""}`;
  }

  /** How often root was asked for. */
  get uses(): number {
    const told = join(this.#folder, "told");
    return existsSync(told) ? readFileSync(told, "utf8").split("\n").length - 1 : 0;
  }

  allow(): void {
    const ending = 's=$?; if [ "$s" -gt 128 ]; then kill -"$((s - 128))" $$; fi; exit "$s"';
    this.#program("sudo", `printf '%s\\n' "$1" >>'${this.#folder}/told'; [ "$1" = -n ] || exit 9; shift; "$@"; ${ending}`);
  }

  refuse(): void {
    this.#program("sudo", "echo 'sudo: a password is required' >&2; exit 1");
  }

  #program(name: string, text: string): void {
    const file = join(this.#folder, "bin", name);
    writeFileSync(file, `#!/bin/sh\n${text}\n`);
    chmodSync(file, 0o755);
  }
}
