/** The Python tests hold the same table against the settings that the services read (tests/test_documentation.py). */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { optionNames, optionsOf, optionVariable } from "../../cli/src/domain/config/service-env.js";

const page = readFileSync(new URL("../../docs/architecture.md", import.meta.url), "utf8");
const section = page.split("## Running a service")[1]?.split("\n### ")[0] ?? "";

/** The services that the table names beside a variable. */
function readersOf(variable: string): string {
  const row = section.split("\n").find((line) => line.startsWith("| `") && line.split(" | ")[0]?.includes(`\`${variable}\``));
  return row?.split(" | ")[1] ?? "nobody";
}

test("every option of gpuctl.yaml becomes a setting that its services read", () => {
  for (const option of optionNames) {
    const services = (["embedder", "reranker", "index"] as const).filter((service) => optionsOf(service).includes(option));
    const readers = services.length === 3 ? "all" : services.join(", ");
    expect([option, readersOf(optionVariable(option))]).toEqual([option, readers]);
  }
});
