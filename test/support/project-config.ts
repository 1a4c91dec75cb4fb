import { join } from "node:path";
import type { EnvironmentConfig, ModelSource } from "../../cli/src/domain/config/resolved.js";
import { ms } from "../../cli/src/domain/units.js";

/** The configuration of a project without services. */
export function projectConfig(directory: string, models: Readonly<Record<string, ModelSource>> = {}): EnvironmentConfig {
  return {
    project: "demo",
    projectFile: join(directory, "gpuctl.yaml"),
    environment: "local",
    target: "process",
    bind: "127.0.0.1",
    timings: { load: ms(1000), warmUp: ms(1000), drain: ms(1000), soak: ms(1000), keepWarm: ms(1000) },
    retain: 3,
    services: {},
    models,
  };
}
