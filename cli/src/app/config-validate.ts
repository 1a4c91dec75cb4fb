import { renderProblems, toDiagnostics, type Diagnostic } from "../domain/config/diagnostics.js";
import { overrideLayer, unknownVariables, variableOverrides } from "../domain/config/override-layer.js";
import { ConfigInvalid } from "../domain/errors.js";
import type { TargetKind } from "../domain/names.js";
import { readProject, readUser, type LoadRequest, type ReadConfig } from "./load-config.js";
import { inventoryFiles } from "./load-inventory.js";

export interface ValidationReport {
  files: readonly string[];
  environments: readonly { name: string; target: TargetKind }[];
  services: readonly string[];
  /** Warnings; errors are thrown. */
  diagnostics: readonly Diagnostic[];
  /** The same for people. */
  warnings: string;
}

/** Checks the project file, the user file and the variables, and reports every problem of all of them at once. */
export async function validateConfig(request: LoadRequest): Promise<ValidationReport> {
  const project = await readProject(request);
  const user = await readUser(request);
  const inventories = project.value === null ? [] : await inventoryFiles(request, project.path, project.value);
  const read: readonly ReadConfig<unknown>[] = [project, ...(user === null ? [] : [user]), ...inventories];
  const overrides = overrideLayer(variableOverrides(request.env));
  const wrongVariables = "wrong" in overrides ? overrides.wrong : [];
  const oddVariables = unknownVariables(request.env).map(
    ({ name, guess }) => `${name}: warning: not a variable of gpuctl${guess === null ? "" : `; did you mean ${guess}?`}`,
  );
  const text = [...read.map(render), ...wrongVariables.map((wrong) => wrong.replace(": ", ": error: ")), ...oddVariables]
    .filter((part) => part !== "")
    .join("\n\n");
  const diagnostics = read.flatMap(({ problems, document }) => toDiagnostics(problems, document));
  const errors = diagnostics.filter(({ severity }) => severity === "error").length + wrongVariables.length;
  if (errors > 0 || project.value === null) throw invalid(errors, text, diagnostics, wrongVariables);
  const { environments, services } = project.value;
  return {
    files: read.map(({ document }) => document.file),
    environments: Object.entries(environments).map(([name, { target }]) => ({ name, target })),
    services: Object.keys(services),
    diagnostics,
    warnings: text,
  };
}

const render = ({ problems, document }: ReadConfig<unknown>): string => renderProblems(problems, document);

function invalid(errors: number, text: string, diagnostics: readonly Diagnostic[], variables: readonly string[]): ConfigInvalid {
  return new ConfigInvalid(`the configuration has ${errors === 1 ? "a problem" : `${errors} problems`}\n\n${text}\n`, {
    nextSteps: ["correct it, then: gpuctl config validate"],
    data: { problems: diagnostics, variables },
  });
}
