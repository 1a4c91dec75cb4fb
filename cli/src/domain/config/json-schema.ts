import { z } from "zod";
import { projectFileSchema } from "./schema.js";

/** gpuctl.schema.json: what an editor checks and completes gpuctl.yaml with. Text, as it is committed. */
export function renderJsonSchema(): string {
  const schema = z.toJSONSchema(projectFileSchema, { io: "input", target: "draft-7", reused: "ref" });
  const { $schema, ...rest } = schema;
  return `${JSON.stringify({ $schema, title: "gpuctl.yaml", ...rest }, null, 2)}\n`;
}
