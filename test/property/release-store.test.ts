import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { seal, unseal } from "../../cli/src/adapters/releases/checksummed.js";
import { FileReleaseStore } from "../../cli/src/adapters/releases/file-release-store.js";
import { recordOf, specFor } from "../support/records.js";
import { temporaryDirectories } from "../support/temporary.js";

const temporary = temporaryDirectories();

describe("a sealed document", () => {
  it("gives back any JSON value it was made of", () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4 }), (value) => {
        const found = unseal(seal(value));
        expect(found).toEqual({ ok: true, body: JSON.parse(JSON.stringify(value)) as unknown });
      }),
    );
  });

  it("is never trusted after any one byte of its body changed", () => {
    const text = Buffer.from(seal({ a: [1, true, null, "ü"], b: { c: "text" } }));
    const body = text.indexOf('"body":') + '"body":'.length;
    fc.assert(
      fc.property(fc.integer({ min: body, max: text.length - 3 }), fc.integer({ min: 0x21, max: 0x7e }), (at, byte) => {
        fc.pre(text[at] !== byte);
        const changed = Buffer.from(text);
        changed[at] = byte;
        expect(unseal(changed.toString("utf8")).ok).toBe(false);
      }),
    );
  });

  it("is never trusted when it was cut off anywhere", () => {
    const text = seal({ services: { embedder: { port: 8001 } } }).trimEnd();
    for (let length = 0; length < text.length; length++) expect(unseal(text.slice(0, length)).ok).toBe(false);
  });
});

describe("the release store", () => {
  it("gives back records with any settings, secrets and notes, and finds damage anywhere in them", async () => {
    const settings = fc.dictionary(fc.stringMatching(/^[A-Z_]{1,12}$/), fc.string({ unit: "grapheme" }), { maxKeys: 6 });
    await fc.assert(
      fc.asyncProperty(settings, settings, fc.string({ unit: "grapheme" }), fc.nat(), async (env, secrets, note, seed) => {
        const state = join(temporary(), "state");
        const store = new FileReleaseStore(state);
        const service = {
          spec: specFor({ env }),
          fingerprint: "f".repeat(64),
          since: recordOf(1).id,
          slot: "b" as const,
          peakMiB: 12.5,
          proof: null,
        };
        const record = recordOf(1, { failure: note, services: { embedder: service } });
        await store.create(record, { embedder: secrets });
        expect(await store.list()).toEqual({ records: [record], damaged: [] });
        expect(await store.secrets(record.id)).toEqual(Object.keys(secrets).length === 0 ? {} : { embedder: secrets });
        const file = join(state, "releases", `${record.id}.json`);
        const bytes = readFileSync(file);
        const at = seed % (bytes.length - 2);
        bytes[at] = (bytes[at] ?? 0) ^ 1;
        writeFileSync(file, bytes);
        expect((await store.list()).records).toEqual([]);
      }),
      { numRuns: 40 },
    );
  });
});
