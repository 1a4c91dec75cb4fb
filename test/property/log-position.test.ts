import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { LogPosition } from "../../cli/src/adapters/targets/compose/log-position.js";

interface Entry {
  /** Milliseconds since the container's first line. */
  at: number;
  nanoseconds: number;
  text: string;
}

const start = Date.parse("2026-11-21T10:00:00Z");

/** As `docker logs --timestamps` prints a line: nine digits, or fewer where the last ones are noughts. */
function printed({ at, nanoseconds, text }: Entry): string {
  const stamp = new Date(start + at).toISOString().replace("Z", "");
  const digits = `${stamp}${nanoseconds.toString().padStart(6, "0")}`.replace(/\.?0+$/, "");
  return `${digits}Z ${text}`;
}

/** `docker logs --since`: the lines of the file, in its order, that are not older. */
function since(log: readonly Entry[], from: string | null): readonly string[] {
  const least = from === null ? 0 : Date.parse(from);
  return log.filter(({ at, nanoseconds }) => start + at + nanoseconds / 1e6 >= least).map(printed);
}

const texts = fc.constantFrom("same", "other", "", "  indented", '{"event":"answered"}', "2026-11-21T10:00:00Z in the text");
/** Lines whose two streams overtake each other by up to a second, often at the same moment. */
const logs = fc
  .array(
    fc.record({
      step: fc.constantFrom(0, 0, 1, 400, 9000),
      back: fc.constantFrom(0, 0, 999),
      ns: fc.constantFrom(0, 1, 999_999),
      text: texts,
    }),
    { maxLength: 60 },
  )
  .map((steps) => {
    let now = 1000;
    return steps.map(({ step, back, ns, text }): Entry => {
      now += step;
      return { at: now - back, nanoseconds: ns, text };
    });
  });

describe("the place in a log", () => {
  it("loses no line and gives none twice, wherever reading is cut off and however often", () => {
    fc.assert(
      fc.property(logs, fc.array(fc.nat(70), { maxLength: 8 }), (log, cuts) => {
        const position = new LogPosition();
        const read: string[] = [];
        const readOn = (written: number, least: number): void => {
          const lines = since(log.slice(0, written), position.begin());
          // Cut off anywhere in what comes.
          for (const line of lines.slice(0, least)) {
            const text = position.accept(line);
            if (text !== null) read.push(text);
          }
        };
        let written = 0;
        for (const cut of cuts) {
          written = Math.max(written, Math.min(cut, log.length));
          readOn(written, Math.max(0, cut - 5));
        }
        readOn(log.length, Infinity);
        expect(read).toEqual(log.map(({ text }) => text));
      }),
      { numRuns: 500 },
    );
  });

  it("begins without a moment before it has read anything", () => {
    expect(new LogPosition().begin()).toBeNull();
  });

  it("hands on what has no time, such as Docker's own complaint", () => {
    expect(new LogPosition().accept("Error response from daemon: no such container")).toBe(
      "Error response from daemon: no such container",
    );
  });
});
