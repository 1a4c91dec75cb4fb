/** What `gpuctl cost` is asked about: environments with their nodes, the price list, and measured rates. */
import { dirname } from "node:path";
import { renderProblems, toDiagnostics } from "../domain/config/diagnostics.js";
import { inventoryOf, withInventory } from "../domain/config/apply-inventory.js";
import { validatePrices } from "../domain/config/validate.js";
import { measuredRates, type MeasuredRate } from "../domain/cost/bench-file.js";
import type { PriceFile } from "../domain/cost/price-file.js";
import { ConfigInvalid } from "../domain/errors.js";
import type { CostEnvironment, CostRequest } from "./cost.js";
import { loadProjectFile, type LoadRequest } from "./load-config.js";
import { readInventory } from "./load-inventory.js";

export interface CostFlags {
  prices: string | undefined;
  bench: readonly string[] | undefined;
  /** Files of benchmarks in a folder. */
  found: (folder: string) => Promise<readonly string[]>;
  warn: (text: string) => void;
}

/** Reads everything that `gpuctl cost` needs but prices of the provider. Throws ConfigInvalid for what is wrong in any file. */
export async function costRequest(load: LoadRequest, flags: CostFlags): Promise<CostRequest> {
  const project = await loadProjectFile(load);
  const names = Object.keys(project.file.environments);
  const named = load.environment ?? (load.env["GPUCTL_ENVIRONMENT"] || undefined);
  if (named !== undefined && !names.includes(named))
    throw new ConfigInvalid(`there is no environment ${JSON.stringify(named)}`, {
      because: `gpuctl.yaml declares ${names.join(", ")}`,
      nextSteps: names.map((name) => `--environment ${name}`),
    });
  const environments: CostEnvironment[] = [];
  for (const environment of named === undefined ? names : [named]) {
    const one = await environmentOf(load, { ...project, environment }, named === undefined ? flags.warn : null);
    if (one !== null) environments.push(one);
  }
  const folder = dirname(project.path);
  const usual = project.file.defaultEnvironment ?? (names.length === 1 ? (names[0] ?? null) : null);
  return { environments, prices: await pricesIn(load, flags, folder), rates: await ratesIn(load, flags, folder), usual };
}

/** One environment; null for one whose inventory cannot be read, when it was not asked for by name. */
async function environmentOf(
  load: LoadRequest,
  from: Parameters<typeof readInventory>[1],
  warn: ((text: string) => void) | null,
): Promise<CostEnvironment | null> {
  const own = from.file.environments[from.environment];
  if (own === undefined) return null;
  try {
    const known = inventoryOf(own) === null ? null : await readInventory(load, from);
    const settings = withInventory(own, known);
    const nodes = settings.target === "compose" || settings.target === "swarm" ? Object.keys(settings.nodes) : [];
    return { name: from.environment, nodes, inventory: known?.value ?? null };
  } catch (error) {
    if (warn === null || !(error instanceof Error)) throw error;
    warn(`environment ${from.environment} is left out: ${error.message}`);
    return null;
  }
}

async function pricesIn(load: LoadRequest, { prices }: CostFlags, folder: string): Promise<PriceFile | null> {
  const path = prices === undefined ? `${folder}/prices.yaml` : load.files.absolute(prices, load.cwd);
  const read = await load.files.read(path);
  if (read === null) {
    if (prices === undefined) return null;
    throw new ConfigInvalid(`there is no file ${prices}`, { because: "it was named by --prices" });
  }
  const { value, problems } = validatePrices(read.document);
  if (value !== null) return value;
  const count = problems.length === 1 ? "a problem" : `${problems.length} problems`;
  throw new ConfigInvalid(`${read.document.file} has ${count}\n\n${renderProblems(problems, read.document)}\n`, {
    nextSteps: ["docs/guides/cost.md has an example"],
    data: { problems: toDiagnostics(problems, read.document) },
  });
}

/** What the named files, or those that lie in the folder, have measured; never what a benchmark itself calls INVALID. */
async function ratesIn(load: LoadRequest, flags: CostFlags, folder: string): Promise<MeasuredRate[]> {
  const { bench, found } = flags;
  const named = bench?.map((file) => load.files.absolute(file, load.cwd));
  const rates: MeasuredRate[] = [];
  for (const path of named ?? (await found(folder))) {
    const read = await load.files.read(path);
    const own = read === null ? null : measuredRates(read.document.file, read.document.value);
    if (own !== null) rates.push(...own);
    else if (named !== undefined)
      throw new ConfigInvalid(`${read?.document.file ?? path} is no result of a benchmark`, {
        because: read === null ? "there is no such file" : "it is not what gpuctl bench --out writes",
        nextSteps: ["gpuctl bench --out bench.json"],
      });
  }
  const invalid = rates.filter(({ verdict }) => verdict === "INVALID");
  for (const { file, counted } of invalid) flags.warn(`${file}: its measurement of ${counted} is INVALID, and is left out`);
  return rates.filter(({ verdict }) => verdict !== "INVALID");
}
