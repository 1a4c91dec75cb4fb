import type { z } from "zod";
import { crossChecks } from "./cross-checks.js";
import { inOrder } from "./diagnostics.js";
import { problemsFromIssues } from "./issues.js";
import { projectFileSchema, userFileSchema, type ProjectFile, type UserFile } from "./schema.js";
import type { Problem, SourceDocument } from "./source.js";

/** Every problem of a file at once; `value` only when none of them is an error. */
export interface Validated<Value> {
  value: Value | null;
  problems: readonly Problem[];
}

export const validateProject = (document: SourceDocument): Validated<ProjectFile> =>
  validate(document, projectFileSchema, crossChecks);

export const validateUser = (document: SourceDocument): Validated<UserFile> => validate(document, userFileSchema, () => []);

function validate<Schema extends z.ZodType>(
  document: SourceDocument,
  schema: Schema,
  further: (document: SourceDocument) => Problem[],
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
      hint: "gpuctl init writes a commented one; it never overwrites, so remove this file first",
    };
    return { value: null, problems: [...document.problems, empty] };
  }
  const parsed = schema.safeParse(document.value, { reportInput: false });
  const found = parsed.success ? [] : problemsFromIssues(parsed.error.issues, schema, document);
  const problems = inOrder([...document.problems, ...found, ...further(document)]);
  const failed = problems.some((problem) => problem.severity === "error");
  return { value: failed || !parsed.success ? null : parsed.data, problems };
}
