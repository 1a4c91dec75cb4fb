import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { renderJsonSchema } from "../../cli/src/domain/config/json-schema.js";
import { packageRoot } from "../support/run-command.js";

it("gpuctl.schema.json is what the schema in the code says (`npm run generate` writes it)", () => {
  expect(readFileSync(join(packageRoot, "gpuctl.schema.json"), "utf8")).toBe(renderJsonSchema());
});
