/** Writes what is generated from the code and committed: gpuctl.schema.json. Run by `npm run generate`; a test checks that it is current. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { root, say } from "./setup/run.mjs";

const { renderJsonSchema } = await import(join(root, "dist/domain/config/json-schema.js"));
writeFileSync(join(root, "gpuctl.schema.json"), renderJsonSchema());
say("wrote gpuctl.schema.json");
