import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as prettier from "prettier";
import { expect, it } from "vitest";
import { renderTypes } from "../../scripts/openapi-types.mjs";
import { packageRoot } from "../support/run-command.js";

const documents = join(packageRoot, "compose/services/openapi");
const types = join(packageRoot, "cli/src/domain/service-types.ts");

it("the types of what services take and answer are those of their documents (`npm run generate` writes them)", async () => {
  const read = readdirSync(documents).map((file) => [file, JSON.parse(readFileSync(join(documents, file), "utf8")) as unknown]);
  const options = await prettier.resolveConfig(types);
  const rendered = renderTypes(Object.fromEntries(read) as Record<string, unknown>);
  expect(readFileSync(types, "utf8")).toBe(await prettier.format(rendered, { ...options, parser: "typescript" }));
});

it("says what a schema means in TypeScript", () => {
  const schemas = {
    Thing: {
      type: "object",
      description: "A thing.",
      required: ["a-b", "many"],
      properties: {
        "a-b": { anyOf: [{ type: "integer" }, { type: "null" }] },
        many: { type: "array", items: { anyOf: [{ $ref: "#/components/schemas/Error" }, { type: "string" }] } },
        open: { type: "object", additionalProperties: {} },
        kind: { enum: ["x", null] },
      },
    },
    Error: { type: "object", properties: {} },
  };
  const rendered = renderTypes({ one: { components: { schemas } } });
  expect(rendered).toContain("/** A thing. */\nexport interface Thing {");
  expect(rendered).toContain('"a-b": number | null;');
  expect(rendered).toContain("many: readonly (ServiceError | string)[];");
  expect(rendered).toContain("open?: Readonly<Record<string, unknown>>;");
  expect(rendered).toContain('kind?: "x" | null;');
});

it("refuses one name for two different types", () => {
  const of = (type: string): unknown => ({ components: { schemas: { Thing: { type } } } });
  expect(() => renderTypes({ one: of("string"), two: of("integer") })).toThrow("Thing differently");
});
