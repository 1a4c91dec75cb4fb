import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import ts from "typescript";
import { packageRoot } from "../support/run-command.js";

const source = join(packageRoot, "cli/src");

interface Import {
  from: string;
  /** Path in cli/src, or the package's name. */
  to: string;
  typeOnly: boolean;
  dynamic: boolean;
}

/** Every import in every file, static and dynamic, as the compiler sees them. */
const imports: readonly Import[] = filesBelow(source).flatMap(importsOf);

describe("the layers, by the import graph of every file", () => {
  it("look at a real graph, in which every import exists", () => {
    expect(imports.length).toBeGreaterThan(100);
    const missing = imports.filter(({ to }) => isOurs(to) && !existsSync(join(source, to)));
    expect(missing.map(show)).toEqual([]);
    expect(imports.filter(({ to }) => to.startsWith("..")).map(show)).toEqual([]);
  });

  it("domain imports only itself, zod, yaml (pure too) and hashing", () => {
    const allowed = ({ to }: Import) => to.startsWith("domain/") || to === "zod" || to === "yaml" || to === "node:crypto";
    expect(breaches(within("domain/"), allowed)).toEqual([]);
  });

  it("app imports app, bench, domain and ports, and reads nothing of the machine", () => {
    const own = ({ to }: Import) => /^(app|bench|domain|ports)\/|^ports\.ts$/.test(to);
    expect(
      breaches(within("app/"), (edge) => own(edge) || edge.to === "node:crypto" || /^node:(path|timers)/.test(edge.to)),
    ).toEqual([]);
  });

  it("bench imports bench, domain and ports", () => {
    const own = ({ to }: Import) => /^(bench|domain|ports)\/|^ports\.ts$/.test(to);
    expect(breaches(within("bench/"), (edge) => own(edge) || /^node:(crypto|path)$/.test(edge.to))).toEqual([]);
  });

  it("adapters import adapters, domain and ports, never a use case or a command", () => {
    const forbidden = ({ to }: Import) => /^(app|bench|commands|hooks|wiring)\/|^(base-command|wiring|main|help)\.ts$/.test(to);
    expect(breaches(within("adapters/"), (edge) => !forbidden(edge) || edge.typeOnly)).toEqual([]);
  });

  it("only wiring sees adapters, and only by dynamic import", () => {
    const seen = imports.filter(({ from, to }) => to.startsWith("adapters/") && !from.startsWith("adapters/"));
    expect(new Set(seen.map(({ from }) => from))).toEqual(
      new Set([
        "wiring.ts",
        "wiring/compose.ts",
        "wiring/doctor.ts",
        "wiring/host.ts",
        "wiring/hosts.ts",
        "wiring/images.ts",
        "wiring/infra.ts",
      ]),
    );
    expect(seen.filter(({ dynamic, typeOnly }) => !dynamic && !typeOnly)).toEqual([]);
  });

  it("commands import no package but oclif, and their use case when they run", () => {
    const packages = within("commands/").filter(({ to }) => !isOurs(to) && !to.startsWith("node:"));
    expect(packages.filter(({ to }) => to !== "@oclif/core")).toEqual([]);
    const eager = within("commands/").filter(
      ({ to, dynamic, typeOnly }) => !dynamic && !typeOnly && /^app\/(?!render\/)|^wiring/.test(to),
    );
    expect(eager.map(show)).toEqual([]);
  });

  it("nobody imports a command", () => {
    expect(imports.filter(({ to }) => to.startsWith("commands/")).map(show)).toEqual([]);
  });

  it("ports know only the domain and each other, and are nothing but types where they do", () => {
    const ports = imports.filter(({ from }) => isPort(from));
    expect(ports.length).toBeGreaterThan(5);
    expect(breaches(ports, ({ to, typeOnly }) => to.startsWith("domain/") || (isPort(to) && typeOnly))).toEqual([]);
  });
});

describe("the size of things", () => {
  it("no file is longer than 300 lines, and no command longer than 80", () => {
    const generated = join(source, "domain/service-types.ts");
    const files = filesBelow(source).filter((file) => file !== generated);
    const long = files.filter((file) => lines(file) > (file.includes("/commands/") ? 80 : 300));
    expect(long.map((file) => `${relative(source, file)}: ${lines(file).toString()} lines`)).toEqual([]);
  });
});

function isPort(file: string): boolean {
  return file === "ports.ts" || file.startsWith("ports/");
}

function within(prefix: string): readonly Import[] {
  return imports.filter(({ from }) => from.startsWith(prefix));
}

function breaches(edges: readonly Import[], allowed: (edge: Import) => boolean): string[] {
  return edges.filter((edge) => !allowed(edge)).map(show);
}

function show({ from, to }: Import): string {
  return `${from} -> ${to}`;
}

function isOurs(to: string): boolean {
  return to.endsWith(".ts");
}

function lines(file: string): number {
  return readFileSync(file, "utf8").trimEnd().split("\n").length;
}

function filesBelow(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
    .map((entry) => join(entry.parentPath, entry.name));
}

function importsOf(file: string): Import[] {
  const from = relative(source, file);
  const tree = ts.createSourceFile(file, readFileSync(file, "utf8"), ts.ScriptTarget.Latest, true);
  const found: Import[] = [];
  const add = (specifier: ts.Expression | undefined, typeOnly: boolean, dynamic: boolean) => {
    if (specifier !== undefined && ts.isStringLiteral(specifier))
      found.push({ from, to: resolveImport(file, specifier.text), typeOnly, dynamic });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node))
      add(node.moduleSpecifier, node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword, false);
    else if (ts.isExportDeclaration(node)) add(node.moduleSpecifier, node.isTypeOnly, false);
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword)
      add(node.arguments[0], false, true);
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) add(node.argument.literal, true, false);
    ts.forEachChild(node, visit);
  };
  visit(tree);
  return found;
}

function resolveImport(file: string, specifier: string): string {
  if (!specifier.startsWith(".")) return specifier.startsWith("node:") ? specifier : packageName(specifier);
  return relative(source, resolve(dirname(file), specifier.replace(/\.js$/, ".ts")));
}

function packageName(specifier: string): string {
  return specifier.split("/", specifier.startsWith("@") ? 2 : 1).join("/");
}
