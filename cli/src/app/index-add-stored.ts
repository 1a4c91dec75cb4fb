import { field } from "../bench/workload.js";
import { ms } from "../domain/units.js";
import type { Delete, Deleted, LookedUp, Lookup, TextValues, Values } from "../domain/service-types.js";
import type { DocumentReader } from "../ports.js";
import type { ServiceAddress } from "./service-address.js";
import { callPatiently, type CallTools } from "./service-call.js";

const base = "/api/v1/vector-store";

interface Place {
  namespace: string;
  index: ServiceAddress;
}

/** Ids of a source's chunks in the index, with their metadata. */
export async function storedChunks(tools: CallTools, place: Place, source: string): Promise<Map<string, unknown>> {
  const wanted = { filter: { source } } satisfies Lookup;
  const items = field(await ask(tools, place, "items/lookup", wanted), "items" satisfies keyof LookedUp);
  return new Map(Object.entries((items ?? {}) as Record<string, unknown>).map(([id, item]) => [id, field(item, "metadata")]));
}

/**
 * Chunks of files that were below the directories when they were added and are no longer on the disk. A file that is still
 * there keeps its chunks even when it could not be read this time, and so does whatever another client put into the index.
 */
export async function chunksOfGoneFiles(
  tools: CallTools & { documents: DocumentReader },
  place: Place,
  paths: readonly string[],
): Promise<{ files: number; ids: readonly string[] }> {
  const sources = new Set<string>();
  for (const prefix of await tools.documents.prefixes(paths)) {
    const wanted = { key: "source", prefix } satisfies Values;
    const values = field(await ask(tools, place, "items/values", wanted), "values" satisfies keyof TextValues);
    for (const source of Array.isArray(values) ? (values as string[]) : []) sources.add(source);
  }
  const gone = { files: 0, ids: [] as string[] };
  for (const source of sources) {
    if (!(await tools.documents.isGone(source))) continue;
    const ids = [...(await storedChunks(tools, place, source))].filter(([, metadata]) => isOurs(metadata)).map(([id]) => id);
    if (ids.length > 0) gone.files += 1;
    gone.ids.push(...ids);
  }
  return gone;
}

/** Only after everything was added: an interrupted run leaves too much rather than too little. */
export async function deleteChunks(tools: CallTools, place: Place, ids: readonly string[]): Promise<number> {
  let deleted = 0;
  for (let from = 0; from < ids.length; from += 1000) {
    const wanted = { ids: ids.slice(from, from + 1000) } satisfies Delete;
    deleted += Number(field(await ask(tools, place, "delete", wanted), "deleted" satisfies keyof Deleted) ?? 0);
  }
  return deleted;
}

/** What `index add` writes with every chunk. */
function isOurs(metadata: unknown): boolean {
  const hash = field(metadata, "hash");
  return typeof hash === "string" && /^[0-9a-f]{32}$/.test(hash) && typeof field(metadata, "line") === "number";
}

async function ask(tools: CallTools, { namespace, index }: Place, path: string, body: object): Promise<unknown> {
  const call = {
    service: "index",
    address: index,
    path: `${base}/${path}`,
    body: { namespace, ...body },
    timeout: ms(30_000),
  } as const;
  return (await callPatiently(tools, call)).body;
}
