import { dirname } from "node:path";
import { ConfigInvalid, Failed } from "../domain/errors.js";
import type { Inventory } from "../domain/inventory.js";
import type { StackInventories, StackPlace } from "../ports/infra.js";
import { loadProject, type LoadRequest } from "./load-config.js";
import { accepted } from "./load-inventory.js";
import { typed, valueOf, type InfraTools } from "./infra-stack.js";

export interface InfraExport {
  stack: string;
  inventory: Inventory;
  /** File that was written; null when the inventory is only printed. */
  file: string | null;
}

/** Outputs of a stack; secrets as "[secret]" unless they are asked for, which needs the passphrase. */
export async function infraOutputs(
  { pulumi }: InfraTools,
  stack: string,
  showSecrets: boolean,
): Promise<Record<string, unknown>> {
  const again = `${typed("outputs", stack)}${showSecrets ? " --show-secrets" : ""}`;
  if (showSecrets) return valueOf(pulumi, await pulumi.outputs(stack), stack, again);
  return { ...(await valueOf(pulumi, await pulumi.state(stack), stack, again)).outputs };
}

/**
 * Reads a stack's inventory, checks it, and writes it to a file where one is named.
 * @param write  replaces a file durably, or not at all
 */
export async function infraExport(
  inventories: StackInventories,
  place: StackPlace,
  stack: string,
  output: { file: string; write: (text: string) => Promise<void> } | null,
): Promise<InfraExport> {
  const document = await inventories.ofStack(place, stack);
  if (document === null)
    throw new Failed(`the stack ${stack} has no inventory`, {
      because: "nothing has been made by it yet, or its last change ended before its end",
      nextSteps: [typed("up", stack)],
    });
  const inventory = accepted(document, [`${typed("up", stack)}   # writes it again`]);
  if (output !== null) await output.write(`${JSON.stringify(inventory, null, 2)}\n`);
  return { stack, inventory, file: output?.file ?? null };
}

/** The file that an environment's inventory is read from; null for an environment without one, and without a gpuctl.yaml. Throws as `loadProject` does. */
export async function inventoryFile(request: LoadRequest): Promise<string | null> {
  const project = await loadProject(request).catch((error: unknown) => {
    if (error instanceof ConfigInvalid && error.data?.["missing"] === true) return null;
    throw error;
  });
  const source = project?.own.target === "compose" ? project.own.inventory : undefined;
  return project === null || source?.kind !== "file" ? null : request.files.absolute(source.path, dirname(project.path));
}
