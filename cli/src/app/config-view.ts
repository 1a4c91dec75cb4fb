import { originText, type Origin, type Traced } from "../domain/config/layers.js";
import { loadWithOrigins, type LoadRequest } from "./load-config.js";

export interface ConfigView {
  project: string;
  projectFile: string;
  environment: string;
  target: string;
  values: readonly { path: string; value: Traced["value"]; origin: Origin; from: string }[];
}

/** The effective configuration of one environment, with the origin of every value. */
export async function viewConfig(request: LoadRequest): Promise<ConfigView> {
  const { config, trace } = await loadWithOrigins(request);
  const { project, projectFile, environment, target } = config;
  return {
    project,
    projectFile,
    environment,
    target,
    values: trace.map((traced) => ({ ...traced, from: originText(traced.origin) })),
  };
}

/** A table of values; with `origin`, where each came from. */
export function configTable(view: ConfigView, origin: boolean): string {
  const rows = view.values.map(({ path, value, from }) => [path, value === null ? "-" : String(value), from] as const);
  const widest = (column: 0 | 1): number => Math.max(0, ...rows.map((row) => row[column].length));
  const [first, second] = [widest(0), Math.min(widest(1), 48)];
  return rows
    .map(([path, value, from]) => `${path.padEnd(first)}  ${origin ? `${value.padEnd(second)}  ${from}` : value}`.trimEnd())
    .join("\n");
}
