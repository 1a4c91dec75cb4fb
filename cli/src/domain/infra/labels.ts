/** Labels that every resource of the program carries; `gpuctl infra gc` and `gpuctl cost` find resources by them. */
export const projectLabel = "gpuctl-project";
export const stackLabel = "gpuctl-stack";
export const nodeLabel = "gpuctl-node";

/** The label of everything that gpuctl made, and its value. */
export const managedBy = { key: "managed-by", value: "gpuctl" } as const;

/** A selector for everything that gpuctl made in a project of the provider. */
export const madeByGpuctl = `${managedBy.key}=${managedBy.value}`;

/** A selector for what one stack made. */
export const madeBy = (project: string, stack: string): string =>
  `${madeByGpuctl},${projectLabel}=${labelValue(project)},${stackLabel}=${labelValue(stack)}`;

/** Text as a label's value: at most 63 letters, digits, dots, dashes and underscores, beginning and ending with a letter or digit. */
export function labelValue(text: string): string {
  return text
    .replace(/[^A-Za-z0-9._-]/g, "-")
    .slice(0, 63)
    .replace(/^[^A-Za-z0-9]+|[^A-Za-z0-9]+$/g, "");
}
