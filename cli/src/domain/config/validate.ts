import type { z } from "zod";
import { checkPriceFile, priceFileSchema, type PriceFile } from "../cost/price-file.js";
import { inventorySchema, type Inventory } from "../inventory.js";
import { crossChecks } from "./cross-checks.js";
import { inOrder } from "./diagnostics.js";
import { problemsFromIssues, valueAt } from "./issues.js";
import { projectFileSchema, userFileSchema, type ProjectFile, type UserFile } from "./schema.js";
import { dotted, type Path, type Problem, type SourceDocument } from "./source.js";

/** Every problem of a file at once; `value` only when none of them is an error. */
export interface Validated<Value> {
  value: Value | null;
  problems: readonly Problem[];
}

export const validateProject = (document: SourceDocument): Validated<ProjectFile> =>
  validate(document, projectFileSchema, crossChecks);

export const validateUser = (document: SourceDocument): Validated<UserFile> => validate(document, userFileSchema, () => []);

/** An inventory: the output of a stack, or the file it was exported to. */
export const validateInventory = (document: SourceDocument): Validated<Inventory> =>
  validate(document, inventorySchema, () => [], "gpuctl infra export writes it");

/** prices.yaml. */
export const validatePrices = (document: SourceDocument): Validated<PriceFile> =>
  validate(document, priceFileSchema, checkPriceFile, "docs/guides/cost.md has an example");

function validate<Schema extends z.ZodType>(
  document: SourceDocument,
  schema: Schema,
  further: (document: SourceDocument) => Problem[],
  whenEmpty = "gpuctl init writes a commented one; it never overwrites, so remove this file first",
): Validated<z.output<Schema>> {
  if (document.problems.some((problem) => problem.severity === "error") && document.value === undefined) {
    return { value: null, problems: inOrder(document.problems) };
  }
  if (document.value === null || document.value === undefined) {
    const empty: Problem = {
      severity: "error",
      code: "empty",
      message: "the file is empty",
      span: null,
      path: null,
      hint: whenEmpty,
      guess: null,
    };
    return { value: null, problems: [...document.problems, empty] };
  }
  const parsed = schema.safeParse(document.value);
  const found = parsed.success ? [] : schemaProblems(parsed.error.issues, schema, document);
  const problems = inOrder([...document.problems, ...found, ...further(document)]);
  const failed = problems.some((problem) => problem.severity === "error");
  return { value: failed || !parsed.success ? null : parsed.data, problems };
}

/**
 * A mistyped `target` or `source` hides everything beside it from the schema, which cannot know what else is allowed there.
 * So the rest is checked a second time as if the nearest word had been written: all problems at once, not one a run.
 */
function schemaProblems(issues: readonly z.core.$ZodIssue[], schema: z.ZodType, document: SourceDocument): Problem[] {
  const problems = problemsFromIssues(issues, schema, document);
  const mistyped = issues.filter((issue) => issue.code === "invalid_union" && issue.errors.length === 0);
  const value: unknown = structuredClone(document.value);
  let corrected = false;
  for (const issue of mistyped) {
    const path = issue.path as Path;
    const guess = problems.find((problem) => problem.path === dotted(path))?.guess ?? null;
    const parent = valueAt(value, path.slice(0, -1));
    if (guess === null || typeof parent !== "object" || parent === null) continue;
    (parent as Record<string | number, unknown>)[path.at(-1) ?? ""] = guess;
    corrected = true;
  }
  if (!corrected) return problems;
  const again = schema.safeParse(value);
  const further = again.success ? [] : problemsFromIssues(again.error.issues, schema, { ...document, value });
  const known = new Set(problems.map(identity));
  return [...problems, ...further.filter((problem) => !known.has(identity(problem)))];
}

const identity = ({ code, path, message }: Problem): string => `${code}\0${path ?? ""}\0${message}`;
