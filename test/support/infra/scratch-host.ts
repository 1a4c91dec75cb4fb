import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";

/** Folders that scripts write to; each is this machine's own below, with what was changed above it. */
const layered = ["etc", "var", "usr/local", "srv", "run", "root"];

/**
 * This machine as a host that can be spoiled: what is written to `/etc`, `/var`, `/usr/local`, `/srv`, `/run` and `/root` stays in a
 * folder of its own, a program sees no processes but its own, which end with it, and programs that would reach further are stand-ins.
 * Needs root and overlayfs.
 */
export class ScratchHost {
  readonly #folder = mkdtempSync(join(tmpdir(), "gpuctl-host-"));

  constructor() {
    mkdirSync(join(this.#folder, "bin"));
    for (const name of layered) {
      mkdirSync(join(this.#folder, "upper", name), { recursive: true });
      mkdirSync(join(this.#folder, "work", name), { recursive: true });
    }
    this.standIn("systemctl", "exit 0");
    this.standIn("systemd-run", "exit 0");
  }

  /** Puts a program first on PATH; every call of it is written down, then `body` runs. */
  standIn(name: string, body: string): void {
    const calls = join(this.#folder, "calls");
    const text = `#!/bin/bash\nprintf '%s\\n' "${name} $*" >>'${calls}'\n${body}\n`;
    writeFileSync(join(this.#folder, "bin", name), text, { mode: 0o755 });
  }

  /** Calls of stand-ins since the last time somebody asked. */
  calls(): string[] {
    const path = join(this.#folder, "calls");
    const text = readFileSync(path, { encoding: "utf8", flag: "a+" });
    writeFileSync(path, "");
    return text.split("\n").filter((line) => line !== "");
  }

  /** Runs a program as `bash -s` on the host. */
  run(program: string): { code: number | null; stdout: string; stderr: string } {
    const mounts = layered.map((name) => {
      const part = (kind: string) => join(this.#folder, kind, name);
      return `mount -t overlay overlay -o lowerdir=/${name},upperdir=${part("upper")},workdir=${part("work")} /${name}`;
    });
    const enter = [...mounts, `export HOME=/root PATH=${join(this.#folder, "bin")}:$PATH`, "exec bash -s"].join(" && ");
    const { status, stdout, stderr } = spawnSync(
      "unshare",
      ["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c", enter],
      {
        input: program,
        encoding: "utf8",
      },
    );
    return { code: status, stdout, stderr };
  }

  /** A file that was written on the host. */
  read(path: string): string {
    return readFileSync(join(this.#folder, "upper", path), "utf8");
  }

  /** Paths of all files that were written and are still there. */
  written(): string[] {
    const upper = join(this.#folder, "upper");
    return readdirSync(upper, { withFileTypes: true, recursive: true })
      .filter((entry) => entry.isFile())
      .map((entry) => `/${relative(upper, join(entry.parentPath, entry.name))}`)
      .sort();
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true });
  }
}
