import { createHash, randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Failed } from "../../../cli/src/domain/errors.js";
import { ms } from "../../../cli/src/domain/units.js";
import type { HostWorld } from "./host-world.js";

const patient = { deadline: ms(30_000) };

export function describeFiles(makeWorld: () => Promise<HostWorld>): void {
  let world: HostWorld;
  let here: string;
  beforeAll(async () => {
    world = await makeWorld();
  });
  afterAll(async () => {
    await world.dispose();
  });
  const fresh = (name: string): string => {
    here = join(world.folder, name);
    mkdirSync(here);
    return here;
  };
  const mode = (path: string): string => (statSync(path).mode & 0o7777).toString(8);

  describe("a file that is read", () => {
    it("comes byte by byte, and null says that there is none", async () => {
      const folder = fresh("read");
      const bytes = randomBytes(3_000_000);
      writeFileSync(join(folder, "it's here"), bytes);
      const read = await world.host.readFile(join(folder, "it's here"), patient);
      expect(Buffer.from(read!).equals(bytes)).toBe(true);
      writeFileSync(join(folder, "empty"), "");
      expect(await world.host.readFile(join(folder, "empty"), patient)).toHaveLength(0);
      expect(await world.host.readFile(join(folder, "none"), patient)).toBeNull();
      expect(await world.host.readFile(join(folder, "no/such/folder"), patient)).toBeNull();
    });

    it("and is none is a failure that says so", async () => {
      const folder = fresh("directory");
      await expect(world.host.readFile(folder, patient)).rejects.toMatchObject({
        message: `${folder} could not be read on box`,
        because: expect.stringMatching(/directory/i) as string,
      });
    });
  });

  describe("a file that is written", () => {
    it("has its bytes and its mode, and nothing is left beside it", async () => {
      const folder = fresh("write");
      const bytes = randomBytes(2_500_000);
      await world.host.writeFile(join(folder, "a file"), bytes, 0o640, patient);
      expect(readFileSync(join(folder, "a file")).equals(bytes)).toBe(true);
      expect(mode(join(folder, "a file"))).toBe("640");
      await world.host.writeFile(join(folder, "secret"), "é", 0o400, patient);
      expect(readFileSync(join(folder, "secret"), "utf8")).toBe("é");
      expect(mode(join(folder, "secret"))).toBe("400");
      expect(readdirSync(folder).sort()).toEqual(["a file", "secret"]);
    });

    it("replaces the old one, which whoever has opened it goes on reading", async () => {
      const file = join(fresh("replace"), "state");
      await world.host.writeFile(file, "old", 0o600, patient);
      const before = statSync(file).ino;
      await world.host.writeFile(file, "", 0o644, patient);
      expect(statSync(file).ino).not.toBe(before);
      expect(readFileSync(file, "utf8")).toBe("");
      expect(mode(file)).toBe("644");
    });

    it("into nowhere, or onto a directory, is a failure that says why and leaves nothing", async () => {
      const folder = fresh("nowhere");
      await expect(world.host.writeFile(join(folder, "no/file"), "x", 0o600, patient)).rejects.toThrow(Failed);
      mkdirSync(join(folder, "directory"));
      await expect(world.host.writeFile(join(folder, "directory"), "x", 0o600, patient)).rejects.toMatchObject({
        because: `${join(folder, "directory")} is a directory`,
      });
      expect(readdirSync(folder)).toEqual(["directory"]);
      expect(readdirSync(join(folder, "directory"))).toEqual([]);
    });

    it("is never seen in part while it is replaced over and over", async () => {
      const file = join(fresh("torn"), "file");
      const versions = ["a", "b"].map((letter) => letter.repeat(400_000));
      await world.host.writeFile(file, versions[0]!, 0o600, patient);
      const over = new AbortController();
      const looking = (async () => {
        while (!over.signal.aborted) {
          const seen = await world.host.readFile(file, patient);
          if (!versions.includes(Buffer.from(seen!).toString())) return `${seen!.length} bytes`;
        }
        return "whole";
      })();
      for (let round = 0; round < 10; round += 1) await world.host.writeFile(file, versions[round % 2]!, 0o600, patient);
      over.abort();
      expect(await looking).toBe("whole");
    });
  });

  describe("a file that is sent", () => {
    const prepared = (name: string, size = 5_000_000) => {
      const folder = fresh(name);
      const bytes = randomBytes(size);
      const local = join(folder, "local");
      writeFileSync(local, bytes);
      const sha256 = createHash("sha256").update(bytes).digest("hex");
      return { bytes, file: { local, remote: join(folder, "remote"), mode: 0o444, sha256 }, folder };
    };
    const unfinished = (folder: string): string[] => readdirSync(folder).filter((name) => name.endsWith(".part"));

    it("arrives whole, with its mode, counted in bytes", async () => {
      const { bytes, file, folder } = prepared("send");
      const counts: number[] = [];
      await world.host.sendFile(file, { ...patient, onBytes: (done) => counts.push(done) });
      expect(readFileSync(file.remote).equals(bytes)).toBe(true);
      expect(mode(file.remote)).toBe("444");
      expect(counts.at(-1)).toBe(bytes.length);
      expect(unfinished(folder)).toEqual([]);
    });

    it("is not sent again when it is there, but gets its mode", async () => {
      const { bytes, file } = prepared("again", 300_000);
      await world.host.sendFile(file, patient);
      const before = statSync(file.remote).ino;
      const counts: number[] = [];
      await world.host.sendFile({ ...file, mode: 0o600 }, { ...patient, onBytes: (done) => counts.push(done) });
      expect(counts).toEqual([bytes.length]);
      expect(statSync(file.remote).ino).toBe(before);
      expect(mode(file.remote)).toBe("600");
    });

    it("is continued after an attempt that was stopped midway", async () => {
      const { bytes, file, folder } = prepared("continue", 20_000_000);
      const controller = new AbortController();
      const stopAt = (done: number): void => {
        if (done > 12_000_000) controller.abort(new Error("stopped midway"));
      };
      const first = world.host.sendFile(file, { ...patient, signal: controller.signal, onBytes: stopAt });
      await expect(first).rejects.toThrow("stopped midway");
      expect(existsSync(file.remote)).toBe(false);
      expect(unfinished(folder)).toHaveLength(1);
      const counts: number[] = [];
      await world.host.sendFile(file, { ...patient, onBytes: (done) => counts.push(done) });
      expect(counts[0]).toBeGreaterThan(1_000_000);
      expect(readFileSync(file.remote).equals(bytes)).toBe(true);
    });

    it("is begun anew when what is there is not its beginning, or is more than it", async () => {
      const { bytes, file, folder } = prepared("damaged", 400_000);
      const part = join(folder, `remote.${file.sha256.slice(0, 16)}.part`);
      writeFileSync(part, randomBytes(200_000));
      await world.host.sendFile(file, patient);
      expect(readFileSync(file.remote).equals(bytes)).toBe(true);
      writeFileSync(file.remote, "another");
      writeFileSync(part, Buffer.concat([bytes, bytes]));
      await world.host.sendFile(file, patient);
      expect(readFileSync(file.remote).equals(bytes)).toBe(true);
      expect(unfinished(folder)).toEqual([]);
    });

    it("does not get its name when it is not what was promised", async () => {
      const { file, folder } = prepared("lie", 100_000);
      const lie = { ...file, sha256: "0".repeat(64) };
      await expect(world.host.sendFile(lie, patient)).rejects.toMatchObject({
        message: `${file.remote} could not be sent on box`,
        because: `its sha256 is ${file.sha256}, not ${lie.sha256}`,
      });
      expect(readdirSync(folder)).toEqual(["local"]);
    });

    it("may be sent twice at once: both end well", { repeats: 2 }, async () => {
      const { bytes, file, folder } = prepared(`twice${randomBytes(4).toString("hex")}`, 8_000_000);
      await Promise.all([world.host.sendFile(file, patient), world.host.sendFile(file, patient)]);
      expect(readFileSync(file.remote).equals(bytes)).toBe(true);
      expect(unfinished(folder)).toEqual([]);
    });

    it("that is not on this machine, or that became shorter, is a failure that says so", async () => {
      const { file } = prepared("gone", 100_000);
      await expect(world.host.sendFile({ ...file, local: `${file.local}-not` }, patient)).rejects.toThrow(
        `${file.local}-not cannot be sent`,
      );
      truncateSync(file.local, 70_000);
      await expect(world.host.sendFile(file, patient)).rejects.toThrow(Failed);
      expect(existsSync(file.remote)).toBe(false);
    });

    it("replaces a link by the file, and leaves what the link led to as it was", async () => {
      const { bytes, file, folder } = prepared("link", 10_000);
      writeFileSync(join(folder, "target"), "target");
      symlinkSync("target", file.remote);
      await world.host.sendFile(file, patient);
      expect(readFileSync(file.remote).equals(bytes)).toBe(true);
      expect(readFileSync(join(folder, "target"), "utf8")).toBe("target");
    });
  });
}
