/**
 * Writes what is generated from the code and committed: gpuctl.schema.json, the OpenAPI document of each service, and the
 * TypeScript types of what services take and answer. Run by `npm run generate`; tests check that they are current.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as prettier from "prettier";
import { renderTypes } from "./openapi-types.mjs";
import { findPython, runtimeEnvironment } from "./setup/python.mjs";
import { capture, root, say } from "./setup/run.mjs";

const services = join(root, "compose/services");
const documents = join(services, "openapi");

const { renderJsonSchema } = await import(join(root, "dist/domain/config/json-schema.js"));
writeFileSync(join(root, "gpuctl.schema.json"), renderJsonSchema());
say("wrote gpuctl.schema.json");

const python = join(runtimeEnvironment((await findPython()).tag), "bin/python");
const env = { ...process.env, PYTHONPATH: join(services, "src"), PYTHONDONTWRITEBYTECODE: "1" };
await capture(python, ["-m", "gpuctl_serving.openapi", documents], { env });
say("wrote compose/services/openapi");

const types = "cli/src/domain/service-types.ts";
const read = readdirSync(documents).map((file) => [file, JSON.parse(readFileSync(join(documents, file), "utf8"))]);
const options = await prettier.resolveConfig(join(root, types));
writeFileSync(
  join(root, types),
  await prettier.format(renderTypes(Object.fromEntries(read)), { ...options, parser: "typescript" }),
);
say(`wrote ${types}`);
