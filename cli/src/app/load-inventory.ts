import { dirname, resolve } from "node:path";
import { canonicalJson } from "../domain/canonical.js";
import { inventoryOf, inventoryProblems, sourceText, type KnownInventory } from "../domain/config/apply-inventory.js";
import { renderProblems, toDiagnostics } from "../domain/config/diagnostics.js";
import type { ProjectFile } from "../domain/config/schema.js";
import type { InventorySource } from "../domain/config/schema-targets.js";
import { lineAndColumn, type Problem, type SourceDocument } from "../domain/config/source.js";
import { validateInventory, type Validated } from "../domain/config/validate.js";
import { ConfigInvalid } from "../domain/errors.js";
import type { Inventory } from "../domain/inventory.js";
import type { ConfigFiles } from "../ports.js";
import type { StackInventories, StackPlace } from "../ports/infra.js";

/** What reading an inventory takes. */
export interface InventoryRequest {
  files: ConfigFiles;
  /** Made on use: most environments have no inventory. */
  inventories?: () => Promise<StackInventories>;
}

/** The project file that refers to an inventory. */
export interface Referring {
  /** Real path of gpuctl.yaml. */
  path: string;
  document: SourceDocument;
  file: ProjectFile;
  environment: string;
}

/** The folder of the Pulumi project and its backend, by gpuctl.yaml. */
export const stackPlace = ({ path, file }: Pick<Referring, "path" | "file">): StackPlace => ({
  directory: resolve(dirname(path), file.infra?.directory ?? "."),
  backend: file.infra?.backend ?? null,
});

/**
 * Reads the inventory that an environment refers to; null for one that refers to none. Throws ConfigInvalid when it is missing, wrong,
 * older than the stack, or lacks a node that gpuctl.yaml means.
 */
export async function readInventory(request: InventoryRequest, from: Referring): Promise<KnownInventory | null> {
  const own = from.file.environments[from.environment];
  const source = own === undefined ? null : inventoryOf(own);
  if (source === null) return null;
  const value = source.kind === "file" ? await fromFile(request, from, source) : await fromStack(request, from, source.stack);
  const known = { source: sourceText(source), value };
  const problems = inventoryProblems(from.document, from.environment, known);
  if (problems.length > 0) throw unfit(from.document, problems, ["gpuctl config validate"]);
  return known;
}

/** Inventories in files that environments refer to, read and judged; those that are not there yet are left out. */
export async function inventoryFiles(
  request: InventoryRequest,
  projectFile: string,
  file: ProjectFile,
): Promise<(Validated<Inventory> & { path: string; document: SourceDocument })[]> {
  const sources = Object.values(file.environments).map(inventoryOf);
  const paths = new Set(sources.flatMap((source) => (source?.kind === "file" ? [source.path] : [])));
  const read = await Promise.all(
    [...paths].map((path) => request.files.read(request.files.absolute(path, dirname(projectFile)))),
  );
  return read.flatMap((one) =>
    one === null ? [] : [{ path: one.realPath, document: one.document, ...validateInventory(one.document) }],
  );
}

async function fromFile(
  request: InventoryRequest,
  from: Referring,
  source: Extract<InventorySource, { kind: "file" }>,
): Promise<Inventory> {
  const path = request.files.absolute(source.path, dirname(from.path));
  const read = await request.files.read(path);
  const again = `gpuctl infra export --environment ${from.environment}`;
  if (read === null)
    throw new ConfigInvalid(`there is no inventory ${source.path}`, {
      because: `${placeOf(from)} refers to it, and it has not been exported`,
      nextSteps: [`${again} --stack STACK`],
    });
  const inventory = accepted(read.document, [`${again} --stack STACK   # writes it again`]);
  const recorded = await (await request.inventories?.())?.recorded(stackPlace(from), inventory.stack);
  if (recorded !== undefined && canonicalJson(recorded) !== canonicalJson(inventory))
    throw new ConfigInvalid(`the inventory ${source.path} is not what the stack ${inventory.stack} has now`, {
      because: "the stack was changed after it was exported",
      nextSteps: [`${again} --stack ${inventory.stack}`],
    });
  return inventory;
}

async function fromStack(request: InventoryRequest, from: Referring, stack: string): Promise<Inventory> {
  const document = (await (await request.inventories?.())?.ofStack(stackPlace(from), stack)) ?? null;
  if (document === null)
    throw new ConfigInvalid(`the stack ${stack} has no inventory`, {
      because: `${placeOf(from)} refers to it, and nothing has been made by it yet`,
      nextSteps: [`gpuctl infra up --stack ${stack}`],
    });
  return accepted(document, [`gpuctl infra up --stack ${stack}   # writes it again`]);
}

/** The inventory in a document. Throws ConfigInvalid with every problem and its place. */
export function accepted(document: SourceDocument, nextSteps: readonly string[]): Inventory {
  const { value, problems } = validateInventory(document);
  if (value === null) throw unfit(document, problems, nextSteps);
  return value;
}

function unfit(document: SourceDocument, problems: readonly Problem[], nextSteps: readonly string[]): ConfigInvalid {
  const { length } = problems;
  return new ConfigInvalid(
    `${document.file} has ${length === 1 ? "a problem" : `${length} problems`}\n\n${renderProblems(problems, document)}\n`,
    { nextSteps, data: { problems: toDiagnostics(problems, document) } },
  );
}

/** `gpuctl.yaml:12:16`, where the inventory is named. */
function placeOf({ document, environment }: Referring): string {
  const span = document.locate(["environments", environment, "inventory"], "value");
  const { line, column } = lineAndColumn(document.text, span?.start ?? 0);
  return `${document.file}:${line}:${column}`;
}
