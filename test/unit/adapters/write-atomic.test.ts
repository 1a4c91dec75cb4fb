import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { writeAtomic } from "../../../cli/src/adapters/files/write-atomic.js";

describe("a file that is replaced in one step", () => {
  let scratch: string;
  beforeEach(() => {
    scratch = mkdtempSync(join(tmpdir(), "gpuctl-files-"));
  });
  afterEach(() => {
    rmSync(scratch, { recursive: true });
  });

  it("has the new bytes and the mode that was asked for, whatever the umask", async () => {
    const file = join(scratch, "record.json");
    writeFileSync(file, "old", { mode: 0o644 });
    const umask = process.umask(0o077);
    try {
      await writeAtomic(file, "new", 0o640);
    } finally {
      process.umask(umask);
    }
    expect(readFileSync(file, "utf8")).toBe("new");
    expect(statSync(file).mode & 0o777).toBe(0o640);
  });

  it("is private unless told otherwise", async () => {
    await writeAtomic(join(scratch, "secret"), "x");
    expect(statSync(join(scratch, "secret")).mode & 0o777).toBe(0o600);
  });

  it("leaves nothing beside it, neither when it works nor when it cannot", async () => {
    await writeAtomic(join(scratch, "a"), "x");
    await expect(writeAtomic(join(scratch, "missing/b"), "x")).rejects.toThrow("ENOENT");
    await expect(writeAtomic(scratch, "x")).rejects.toThrow();
    expect(readdirSync(scratch)).toEqual(["a"]);
  });

  it("replaces a link, not what the link points at", async () => {
    writeFileSync(join(scratch, "target"), "untouched");
    symlinkSync(join(scratch, "target"), join(scratch, "link"));
    await writeAtomic(join(scratch, "link"), "new");
    expect(readFileSync(join(scratch, "target"), "utf8")).toBe("untouched");
  });

  it("is one writer's bytes or the other's, never a mixture", async () => {
    const file = join(scratch, "race");
    const texts = Array.from({ length: 20 }, (_, at) => String(at).repeat(10_000));
    await Promise.all(texts.map((text) => writeAtomic(file, text)));
    expect(texts).toContain(readFileSync(file, "utf8"));
  });
});
