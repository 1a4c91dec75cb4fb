import { existsSync } from "node:fs";
import { join } from "node:path";
import type { SourceDocument } from "../../domain/config/source.js";
import type { Pulumi, PulumiFailure, PulumiProject, StackInventories, StackPlace } from "../../ports/infra.js";
import { parseYaml } from "../config/yaml-source.js";
import type { Environment } from "../state/directories.js";
import { readProject } from "./pulumi-project.js";

export interface InventoriesOptions {
  env: Environment;
  pulumi: (place: StackPlace) => Pulumi;
  /** Makes an error of what Pulumi said. */
  explain: (failure: PulumiFailure, project: PulumiProject, stack: string) => Error;
}

/** Inventories of stacks, by `pulumi stack export`, which needs no passphrase. */
export class PulumiInventories implements StackInventories {
  readonly #options: InventoriesOptions;

  constructor(options: InventoriesOptions) {
    this.#options = options;
  }

  async ofStack(place: StackPlace, stack: string): Promise<SourceDocument | null> {
    const pulumi = this.#options.pulumi(place);
    const outcome = await pulumi.state(stack);
    if (!outcome.ok) throw this.#options.explain(outcome, await pulumi.project(), stack);
    const { inventory } = outcome.value.outputs;
    if (inventory === undefined) return null;
    return parseYaml(`stack ${stack}, output inventory`, JSON.stringify(inventory, null, 2));
  }

  async recorded(place: StackPlace, stack: string): Promise<unknown> {
    const found = await readProject(place, this.#options.env).catch(() => null);
    if (found?.stateFolder == null) return undefined;
    const file = join(found.stateFolder, ".pulumi/stacks", found.name, `${stack}.json`);
    if (!existsSync(file) && !existsSync(`${file}.gz`)) return undefined;
    // A machine without Pulumi cannot have changed the stack.
    const outcome = await this.#options
      .pulumi(place)
      .state(stack)
      .catch(() => null);
    return outcome?.ok === true ? outcome.value.outputs["inventory"] : undefined;
  }
}
