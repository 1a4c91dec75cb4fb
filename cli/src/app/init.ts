import { basename, isAbsolute, join, relative } from "node:path";
import { projectNameFrom, renderTemplate, templateEnvironment } from "../domain/config/template.js";
import { shortName } from "../domain/config/schema-values.js";
import { PreflightRefused, UsageError } from "../domain/errors.js";
import type { TargetKind } from "../domain/names.js";
import type { ConfigFiles } from "../ports.js";

export interface InitRequest {
  files: ConfigFiles;
  cwd: string;
  /** Folder to write to; the current one by default. */
  path?: string | undefined;
  target: TargetKind;
  project?: string | undefined;
  firstPort: number;
  /** Folder of the installed package, where gpuctl.schema.json is. */
  packageRoot: string;
}

export interface InitResult {
  file: string;
  project: string;
  target: TargetKind;
  environment: string;
  nextSteps: readonly string[];
}

/** Writes a commented gpuctl.yaml, or refuses: nothing is ever overwritten. */
export async function init(request: InitRequest): Promise<InitResult> {
  const folder = request.files.absolute(request.path ?? ".", request.cwd);
  const file = join(folder, "gpuctl.yaml");
  const project = request.project ?? projectNameFrom(basename(folder));
  const name = shortName.safeParse(project);
  if (!name.success) {
    const why = name.error.issues[0]?.message ?? "it is not a name";
    throw new UsageError(`${JSON.stringify(project)} cannot be a project's name`, {
      because: why,
      nextSteps: [`gpuctl init --project ${projectNameFrom(project)}`],
    });
  }
  const { target, firstPort } = request;
  const text = renderTemplate({ target, project, firstPort, schema: schemaReference(folder, request.packageRoot) });
  if (!(await request.files.create(file, text))) {
    throw new PreflightRefused(`${file} exists already`, {
      because: "init never overwrites a file",
      nextSteps: ["gpuctl config validate", "or write to another folder: gpuctl init --path FOLDER"],
    });
  }
  const nextSteps =
    target === "process"
      ? ["gpuctl doctor", "gpuctl models fetch", "gpuctl deploy"]
      : ["put your own hosts or cluster into it", "gpuctl config validate"];
  return { file, project, target, environment: templateEnvironment[target], nextSteps };
}

/**
 * Where an editor finds the schema without a network: relative when the package lies beside or below the project (a checkout,
 * node_modules), so that the file means the same on another machine; else the path of the installed package.
 */
export function schemaReference(folder: string, packageRoot: string): string {
  const schema = join(packageRoot, "gpuctl.schema.json");
  const fromProject = relative(folder, schema);
  const insidePackage = !relative(packageRoot, folder).startsWith("..");
  if (isAbsolute(fromProject) || (fromProject.startsWith("..") && !insidePackage)) return schema;
  return fromProject.startsWith("..") ? fromProject : `./${fromProject}`;
}
