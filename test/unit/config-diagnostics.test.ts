import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { parseYaml } from "../../cli/src/adapters/config/yaml-source.js";
import { renderProblems } from "../../cli/src/domain/config/diagnostics.js";
import { validateProject } from "../../cli/src/domain/config/validate.js";

const golden = (name: string): string => fileURLToPath(new URL(`../golden/config/${name}`, import.meta.url));

test("every problem of a file is reported at once, each with its place, a caret and what was probably meant", async () => {
  const document = parseYaml("gpuctl.yaml", readFileSync(golden("broken.yaml"), "utf8"));
  const { value, problems } = validateProject(document);
  expect(value).toBeNull();
  await expect(`${renderProblems(problems, document)}\n`).toMatchFileSnapshot(golden("broken.txt"));
});
