import { type ModelPreset, presets } from "../domain/config/presets.js";

export interface ListedPreset extends Omit<ModelPreset, "from"> {
  name: string;
  /** `package NAME` or `hub ID`. */
  source: string;
}

/** Every preset with what it decides. */
export function modelsPresets(): readonly ListedPreset[] {
  return Object.entries(presets).map(([name, { from, ...rest }]: [string, ModelPreset]) => ({
    name,
    source: "package" in from ? `package ${from.package}` : `hub ${from.hub}`,
    ...rest,
  }));
}
