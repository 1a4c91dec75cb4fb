import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { describe, expect, it } from "vitest";
import ts from "typescript";
import { packageRoot } from "../../support/run-command.js";

const source = join(packageRoot, "infra");

/** Every import of the infrastructure: the file, and what it asks for (a path from the repository, or a package). */
const imports = filesBelow(source).flatMap((file) => importsOf(file).map((to) => ({ from: relative(source, file), to })));

describe("the layers of infra, by the imports of every file", () => {
  it("of the command line it sees the domain only", () => {
    expect(imports.length).toBeGreaterThan(60);
    const outside = imports.filter(({ to }) => to.includes("/") && !to.startsWith("infra/") && !/^@pulumi\/|^node:/.test(to));
    expect(outside.length).toBeGreaterThan(0);
    expect(outside.filter(({ to }) => !to.startsWith("cli/src/domain/"))).toEqual([]);
  });

  it("what decides is pure: no Pulumi, no files, no clock, no environment", () => {
    const pure = imports.filter(({ from }) => from.startsWith("lib/") || from === "policy/checks.ts");
    expect(pure.filter(({ to }) => !/^infra\/lib\/|^cli\/src\/domain\/|^(?:zod|yaml|node:crypto|node:zlib)$/.test(to))).toEqual(
      [],
    );
    const files = filesBelow(join(source, "lib")).map((file) => readFileSync(file, "utf8"));
    expect(files.filter((text) => /\bprocess\.|Date\.now|new Date\(\)|Math\.random/.test(text))).toEqual([]);
  });

  it("a component is a file, and only the composition puts several together", () => {
    const components = readdirSync(join(source, "components"));
    for (const name of components) {
      const classes = readFileSync(join(source, "components", name), "utf8").match(/extends pulumi\.ComponentResource/g) ?? [];
      expect(classes.length, name).toBeLessThanOrEqual(1);
    }
    expect(imports.filter(({ from, to }) => from === "index.ts" && to.startsWith("infra/components/"))).toEqual([]);
  });

  it("no file is longer than 300 lines", () => {
    const long = filesBelow(source).filter((file) => readFileSync(file, "utf8").trimEnd().split("\n").length > 300);
    expect(long).toEqual([]);
  });
});

function filesBelow(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts") && !entry.parentPath.includes("node_modules"))
    .map((entry) => join(entry.parentPath, entry.name));
}

function importsOf(file: string): string[] {
  const { importedFiles } = ts.preProcessFile(readFileSync(file, "utf8"));
  return importedFiles.map(({ fileName }) =>
    fileName.startsWith(".") ? relative(packageRoot, join(dirname(file), fileName)) : fileName,
  );
}
