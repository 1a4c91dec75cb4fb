import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ms } from "../../../cli/src/domain/units.js";
import type { CommandResult } from "../../../cli/src/ports.js";
import { until } from "../../support/until.js";
import type { HostWorld } from "./host-world.js";

const patient = { deadline: ms(30_000) };

export function describeCommands(makeWorld: () => Promise<HostWorld>): void {
  let world: HostWorld;
  beforeAll(async () => {
    world = await makeWorld();
  });
  afterAll(async () => {
    await world.dispose();
  });

  const sh = (script: string, input?: string): Promise<CommandResult> =>
    world.host.run({ argv: ["sh", "-c", script], ...(input === undefined ? {} : { input }) }, patient);

  describe("a command", () => {
    it("is judged by its exit status, not by what it says on stderr", async () => {
      expect(await sh("echo working >&2; echo done")).toEqual({ code: 0, signal: null, stdout: "done\n", stderr: "working\n" });
      expect(await sh("exit 7")).toMatchObject({ code: 7, signal: null });
      expect(await sh("exit 255")).toMatchObject({ code: 255, signal: null });
    });

    it("that a signal ended is reported with the signal and without a code", async () => {
      expect(await sh("kill -KILL $$")).toMatchObject({ code: null, signal: "SIGKILL" });
      expect(await sh("kill -TERM $$")).toMatchObject({ code: null, signal: "SIGTERM" });
    });

    it("gets its arguments exactly as they are", async () => {
      const awkward = [
        "",
        " ",
        "a b",
        "it's",
        '"',
        "$(touch x)",
        "`x`",
        "\\",
        "\\'",
        "a\nb",
        "*",
        "~",
        "é✓😀",
        "-n",
        "!!",
        "#",
        "a=b",
      ];
      const { stdout } = await world.host.run({ argv: ["printf", "<%s>\\n", ...awkward] }, patient);
      expect(stdout).toBe(awkward.map((word) => `<${word}>\n`).join(""));
    });

    it("gets its variables, and runs where it is told", async () => {
      const command = {
        argv: ["sh", "-c", 'echo "$GREETING"; pwd'] as const,
        env: { GREETING: "it's $HOME" },
        cwd: world.folder,
      };
      expect((await world.host.run(command, patient)).stdout).toBe(`it's $HOME\n${world.folder}\n`);
    });

    it("does not run at all when its directory cannot be entered", async () => {
      const witness = join(world.folder, "ran-elsewhere");
      const result = await world.host.run({ argv: ["touch", witness], cwd: join(world.folder, "no-such") }, patient);
      expect(result.code).not.toBe(0);
      expect(result.stderr).toContain("no-such");
      expect(existsSync(witness)).toBe(false);
    });

    it("that does not exist ends with 127 and its name", async () => {
      const result = await world.host.run({ argv: ["no-such-program"] }, patient);
      expect(result).toMatchObject({ code: 127, stderr: expect.stringContaining("no-such-program") as string });
    });

    it("gets all of its input, more than any window or pipe holds", async () => {
      const input = "0123456789é\n".repeat(700_000);
      const { stdout } = await world.host.run({ argv: ["sha256sum"], input }, patient);
      expect(stdout.slice(0, 64)).toBe(createHash("sha256").update(input).digest("hex"));
    });

    it("may end without reading its input", async () => {
      expect(await sh("exit 3", "x".repeat(8_000_000))).toMatchObject({ code: 3 });
    });

    it("without input reads the end of it at once", async () => {
      expect(await sh("cat; echo over")).toMatchObject({ code: 0, stdout: "over\n" });
    });

    it("has its text whole, wherever the transport cuts it", async () => {
      const text = "zwölf 😀 Boxkämpfer ✓ ".repeat(30_000);
      const { stdout } = await world.host.run({ argv: ["cat"], input: text }, patient);
      expect(stdout === text).toBe(true);
    });

    it("gives its lines as they come, before it ends", async () => {
      const lines: string[] = [];
      const release = join(world.folder, "release");
      const running = world.host.run(
        { argv: ["sh", "-c", `echo first; echo loud >&2; while [ ! -e ${release} ]; do sleep 0.05; done; printf last`] },
        { ...patient, onLine: (line, stream) => lines.push(`${stream} ${line}`) },
      );
      await until(() => lines.length === 2, "two lines came");
      await world.host.run({ argv: ["touch", release] }, patient);
      await running;
      expect(lines.sort()).toEqual(["stderr loud", "stdout first", "stdout last"]);
    });

    it("is over when it ends, whatever daemon it leaves behind with its output", async () => {
      const started = performance.now();
      expect(await sh("sleep 31 & echo over")).toMatchObject({ code: 0, stdout: "over\n" });
      expect(performance.now() - started).toBeLessThan(10_000);
    });

    it("runs thirty at once, all with their own output", async () => {
      const numbers = Array.from({ length: 30 }, (_, number) => number);
      const results = await Promise.all(numbers.map((number) => sh(`sleep 0.1; echo ${number}; exit ${number}`)));
      expect(results.map(({ stdout, code }) => [stdout, code])).toEqual(numbers.map((number) => [`${number}\n`, number]));
    });
  });

  describe("a command that floods", () => {
    it("is ended when all of it is to be kept", async () => {
      const flood = world.host.run({ argv: ["sh", "-c", "head -c 100000000 /dev/zero >&2"] }, patient);
      await expect(flood).rejects.toMatchObject({
        message: "sh was stopped on box",
        because: "it wrote more than 64 MiB of output",
      });
    });

    it("runs to its end when only its lines are wanted, and a line that never ends comes in pieces", async () => {
      let bytes = 0;
      let longest = 0;
      const result = await world.host.run(
        { argv: ["sh", "-c", "head -c 100000000 /dev/zero | tr '\\0' x; echo said >&2"] },
        {
          ...patient,
          output: "lines",
          onLine: (line, stream) => {
            if (stream === "stdout") bytes += line.length;
            longest = Math.max(longest, line.length);
          },
        },
      );
      expect(result).toEqual({ code: 0, signal: null, stdout: "", stderr: "" });
      expect(bytes).toBe(100_000_000);
      expect(longest).toBeLessThan(4 * 1024 * 1024);
    });
  });

  describe("a command that is to end", () => {
    const pidOf = async (name: string): Promise<number> => {
      const file = join(world.folder, name);
      await until(() => existsSync(file) && readFileSync(file, "utf8").trim() !== "", `${name} was written`);
      return Number(readFileSync(file, "utf8"));
    };
    const stubborn = (name: string): readonly ["sh", "-c", string] =>
      ["sh", "-c", `trap '' TERM; echo $$ >${join(world.folder, name)}; while :; do sleep 0.2; done`] as const;

    it("past its deadline says so, and is gone from the host with what it started", async () => {
      const argv = ["sh", "-c", `sleep 600 & echo $! >${join(world.folder, "late")}; wait`] as const;
      await expect(world.host.run({ argv }, { deadline: ms(1000) })).rejects.toThrow("sh did not end in time on box");
      const pid = await pidOf("late");
      await until(() => !isAlive(pid), "the process on the host ended");
    });

    it("because it was aborted fails with the reason given, also when it ignores SIGTERM", async () => {
      const controller = new AbortController();
      const running = world.host.run({ argv: stubborn("stubborn") }, { ...patient, signal: controller.signal });
      const failed = expect(running).rejects.toThrow("the operator left");
      const pid = await pidOf("stubborn");
      controller.abort(new Error("the operator left"));
      await failed;
      await until(() => !isAlive(pid), "the process on the host was killed");
    });

    it("is not even started when it was aborted before", async () => {
      const witness = join(world.folder, "aborted-before");
      const signal = AbortSignal.abort(new Error("too early"));
      await expect(world.host.run({ argv: ["touch", witness] }, { ...patient, signal })).rejects.toThrow("too early");
      expect(existsSync(witness)).toBe(false);
    });

    it("at any moment, gives its place back: nothing is stuck afterwards", async () => {
      const attempts = Array.from({ length: 40 }, async (_, number) => {
        const signal = AbortSignal.timeout(number * 7);
        return world.host.run({ argv: ["sleep", "20"] }, { ...patient, signal }).catch((error: unknown) => error);
      });
      for (const outcome of await Promise.all(attempts)) expect(outcome).toHaveProperty("name", "TimeoutError");
      expect(await sh("echo alive")).toMatchObject({ code: 0, stdout: "alive\n" });
    });
  });
}

function isAlive(pid: number): boolean {
  try {
    // A process that has ended and was not waited for yet is still in the table.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}
