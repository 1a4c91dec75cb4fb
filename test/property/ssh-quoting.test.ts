/** Words, scripts and frames through a real `sh`, and a frame in whatever pieces it comes. */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { framed, FrameReader, verdictOf } from "../../cli/src/domain/ssh/framing.js";
import { forLoginShell, quoteWord, shellLine } from "../../cli/src/domain/ssh/shell-line.js";

const awkward = fc.constantFrom(
  "'",
  '"',
  "\\",
  "\n",
  "$",
  "`",
  "!",
  " ",
  "\t",
  ";",
  "&",
  "|",
  "*",
  "~",
  "#",
  "-",
  "=",
  "é",
  "😀",
  "\u001e",
  "a",
);
const word = fc
  .oneof(fc.string({ unit: awkward, maxLength: 12 }), fc.string({ maxLength: 20 }))
  .map((text) => text.replaceAll("\0", ""));
const words = fc.array(word, { maxLength: 5 });
const runs = { numRuns: 60 };

const sh = (line: string, shell = "/bin/sh"): string => execFileSync(shell, ["-c", line], { encoding: "utf8" });

describe("a quoted word", () => {
  it("is the same word after the shell has read it", () => {
    fc.assert(
      fc.property(words, (all) => {
        const printed = sh(`printf '%s\\0' ${["begin", ...all].map(quoteWord).join(" ")}`);
        expect(printed).toBe(["begin", ...all].map((each) => `${each}\0`).join(""));
      }),
      runs,
    );
  });

  it("is refused when no process can have it", () => {
    expect(() => quoteWord("a\0b")).toThrow(RangeError);
  });
});

describe("a command line", () => {
  it("gives the program its arguments and variables through the login shell, twice quoted", () => {
    fc.assert(
      fc.property(words, word, (all, value) => {
        const script = `printf '%s\\0' "$VALUE" "$@"`;
        const line = shellLine({ argv: ["sh", "-c", script, "sh", ...all], env: { VALUE: value }, cwd: "/" });
        for (const shell of ["/bin/sh", "/bin/bash"].filter((path) => existsSync(path)))
          expect(sh(forLoginShell(line), shell)).toBe([value, ...all].map((each) => `${each}\0`).join(""));
      }),
      runs,
    );
  });

  it("takes no variable and no program that the shell would read as something else", () => {
    expect(() => shellLine({ argv: ["true"], env: { "A B": "x" } })).toThrow(RangeError);
    expect(() => shellLine({ argv: ["A=b"] })).toThrow(RangeError);
    expect(() => shellLine({ argv: ["-c"] })).toThrow(RangeError);
    expect(() => shellLine({ argv: [""] })).toThrow(RangeError);
  });
});

describe("a frame", () => {
  const bodies = fc.oneof(
    fc.string({ unit: fc.constantFrom("\u001e", "t", "o", "k", "b", "e", " ", "1", "\n", "x"), maxLength: 60 }),
    fc.string(),
  );
  const token = "tok";

  it("gives the body, the pid and the status, whatever was printed before it and however it is cut", () => {
    fc.assert(
      fc.property(
        bodies.filter((text) => !text.includes(`\u001e${token}`)),
        bodies.filter((text) => !text.includes(`\u001e${token}`)),
        fc.nat(255),
        fc.array(fc.nat(200), { maxLength: 12 }),
        (before, body, status, cuts) => {
          const bytes = Buffer.from(`${before}\u001e${token}b 4711\n${body}\u001e${token}e ${status}\n`);
          const { reader, seen } = read(bytes, cuts);
          expect(Buffer.concat(seen).toString()).toBe(body);
          expect([reader.pid, reader.status]).toEqual([4711, status]);
        },
      ),
    );
  });

  it("hands out every byte of output at once that cannot be the beginning of its end", () => {
    const seen: Buffer[] = [];
    const reader = new FrameReader(token, (chunk) => seen.push(chunk));
    reader.push(Buffer.from(`\u001e${token}b 1\nprompt> `));
    expect(Buffer.concat(seen).toString()).toBe("prompt> ");
    reader.push(Buffer.from(`\u001eto`));
    expect(Buffer.concat(seen).toString()).toBe("prompt> ");
    reader.end();
    expect(Buffer.concat(seen).toString()).toBe("prompt> \u001eto");
  });

  it("of a real script says how it ended", () => {
    fc.assert(
      fc.property(fc.nat(125), (code) => {
        const result = spawnSync("/bin/sh", ["-c", framed(`echo out; exit ${code}`, token, "printed")]);
        const { reader, seen } = read(result.stdout, []);
        expect([Buffer.concat(seen).toString(), reader.status, result.status]).toEqual(["out\n", code, code]);
        expect(reader.pid).toBe(result.pid);
      }),
      { numRuns: 10 },
    );
    const killed = spawnSync("/bin/sh", ["-c", framed("kill -KILL $$; sh -c 'kill -9 $$'", token, "native")]);
    expect(killed.signal).toBe("SIGKILL");
    const child = spawnSync("/bin/sh", ["-c", framed("exec sh -c 'kill -9 $$'", token, "printed")]);
    expect(verdictOf(read(child.stdout, []).reader.status!)).toEqual({ code: null, signal: "SIGKILL" });
  });

  function read(bytes: Buffer, cuts: readonly number[]): { reader: FrameReader; seen: Buffer[] } {
    const seen: Buffer[] = [];
    const reader = new FrameReader(token, (chunk) => seen.push(chunk));
    const places = [...new Set([0, ...cuts.map((cut) => Math.min(cut, bytes.length)), bytes.length])].sort((a, b) => a - b);
    for (let index = 1; index < places.length; index += 1) reader.push(bytes.subarray(places[index - 1], places[index]));
    reader.end();
    return { reader, seen };
  }
});
