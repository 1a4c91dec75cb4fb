import type { ModelTools, StoredModel } from "../ports.js";

export interface UnusedModel {
  /** Null for a download that was never finished. */
  id: string | null;
  revision: string | null;
  directory: string;
  bytes: number;
}

export interface KeptModel {
  id: string;
  revision: string;
  directory: string;
  /** Who names it: a lock, a release, an instance, a process. */
  by: readonly string[];
}

export interface GcResult {
  /** False when it was only shown what would be removed. */
  removed: boolean;
  unused: readonly UnusedModel[];
  kept: readonly KeptModel[];
  /** Models that nothing names and that stay all the same, because they were stored within the last hour. */
  young: number;
  bytes: number;
}

/** A model that is so young may belong to a fetch that has not written its lock yet, hours. */
const youngHours = 1;

/** Finds the stored models that no lock, no kept release and nothing that runs names; removes them when confirmed. */
export async function modelsGc(tools: ModelTools, request: { confirm: boolean }): Promise<GcResult> {
  const stored = await tools.models.list();
  const named = await usersOf(tools);
  const kept = stored.flatMap((model) => keptModel(model, named.get(model.directory)));
  const unused = [...(await unusedModels(tools, stored, named)), ...(await tools.uses.abandoned()).map(download)];
  if (request.confirm) {
    for (const { directory } of unused) {
      tools.signal.throwIfAborted();
      // A deploy may have begun meanwhile: what it names now is not removed.
      if (!(await usersOf(tools)).has(directory)) await tools.uses.remove(directory);
    }
  }
  const young = stored.filter(
    ({ directory }) => !named.has(directory) && !unused.some((one) => one.directory === directory),
  ).length;
  return { removed: request.confirm, unused, kept, young, bytes: unused.reduce((sum, { bytes }) => sum + bytes, 0) };
}

async function usersOf({ uses, lock, models }: ModelTools): Promise<Map<string, string[]>> {
  const named = new Map<string, string[]>();
  const add = (directory: string, by: string): void => {
    named.set(directory, [...new Set([...(named.get(directory) ?? []), by])]);
  };
  for (const { directory, by } of await uses.uses()) add(directory, by);
  // This project's lock counts also when it never claimed anything: it may have come with a checkout.
  const pinned = Object.values(await lock.read());
  for (const model of await models.list()) {
    const { id, revision } = model.ref;
    if (pinned.some((one) => one.id === id && one.revision === revision)) add(model.directory, lock.file);
  }
  return named;
}

function keptModel({ ref, directory }: StoredModel, by: readonly string[] | undefined): KeptModel[] {
  return by === undefined ? [] : [{ id: ref.id, revision: ref.revision, directory, by }];
}

async function unusedModels(
  { uses, clock }: ModelTools,
  stored: readonly StoredModel[],
  named: ReadonlyMap<string, unknown>,
): Promise<UnusedModel[]> {
  const unused: UnusedModel[] = [];
  for (const { ref, directory, bytes } of stored) {
    if (named.has(directory)) continue;
    const age = clock.now().getTime() - (await uses.changed(directory));
    if (age >= youngHours * 3600_000) unused.push({ id: ref.id, revision: ref.revision, directory, bytes });
  }
  return unused;
}

const download = ({ directory, bytes }: { directory: string; bytes: number }): UnusedModel => ({
  id: null,
  revision: null,
  directory,
  bytes,
});
