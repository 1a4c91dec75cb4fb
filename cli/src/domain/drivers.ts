import { ConfigInvalid } from "./errors.js";
import type { TargetKind } from "./names.js";

/** Refuses a target whose driver is not there yet: its configuration is understood, but nothing could be done with it. */
export function requireDriver(target: TargetKind, environment: string): asserts target is "process" | "compose" {
  if (target === "process" || target === "compose") return;
  throw new ConfigInvalid(`the target ${target} of environment ${environment} has no driver in this version`, {
    because:
      "its configuration is understood and validated, but only the targets process and compose can be planned and deployed yet",
    nextSteps: ["gpuctl init --target process", "or set `target: process` for this environment in gpuctl.yaml"],
  });
}
