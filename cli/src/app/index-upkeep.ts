import { join } from "node:path";
import { defaultDataDirectory, HostLayout } from "../domain/compose/layout.js";
import { configuredEndpoints } from "../domain/endpoints.js";
import { Failed, PreflightRefused, UsageError } from "../domain/errors.js";
import type { Milliseconds } from "../domain/units.js";
import { ms } from "../domain/units.js";
import type { Context } from "../ports.js";
import { askIndex, indexBase, requireIndex, runIndexJob, servingIndex } from "./index-jobs.js";
import { runIndexTool } from "./index-offline.js";
import { mend } from "./lifecycle/mend.js";
import { type Session, withLease } from "./lifecycle/session.js";
import { keepCurrent } from "./lifecycle/survey.js";
import type { ServingTools } from "./serving-tool.js";

/** What an index answers; see docs/architecture.md. */
export type IndexFacts = Readonly<Record<string, unknown>>;

/** Where the offline tool finds what it needs. */
export interface IndexPlace {
  tools: ServingTools;
  /** State directory of the environment; the index lies in `index/` of it. */
  state: string;
}

const drain = ms(10_000);

export async function indexStats(ctx: Context): Promise<IndexFacts> {
  const answer = await askIndex(ctx, await requireIndex(ctx), `${indexBase}/stats`);
  return answer.body as IndexFacts;
}

/** Makes a snapshot: from it and the log behind it the index is rebuilt when its database is damaged. */
export async function indexSnapshot(ctx: Context): Promise<IndexFacts> {
  return runIndexJob(ctx, await requireIndex(ctx), `${indexBase}/snapshot`);
}

/** Gives back what deleted items, forgotten generations and old changes take. */
export async function indexCompact(ctx: Context): Promise<IndexFacts> {
  return runIndexJob(ctx, await requireIndex(ctx), `${indexBase}/compact`);
}

/** Makes the FAISS indexes again from the stored vectors; the old ones serve meanwhile. */
export async function indexRebuild(ctx: Context): Promise<IndexFacts> {
  return runIndexJob(ctx, await requireIndex(ctx), `${indexBase}/rebuild`);
}

export interface RemoveRequest {
  namespace: string;
  confirm: string | undefined;
}

/** Removes a namespace with everything in it: what a migration kept, once it is not wanted any more. */
export async function indexRemove(ctx: Context, request: RemoveRequest): Promise<IndexFacts> {
  const { namespace, confirm } = request;
  if (confirm !== namespace) {
    throw new UsageError(`remove deletes everything in the namespace ${namespace}`, {
      because: confirm === undefined ? "its name must be given to confirm that" : `${confirm} is not its name`,
      nextSteps: ["gpuctl index stats", `gpuctl index remove ${namespace} --confirm ${namespace}`],
    });
  }
  return runIndexJob(ctx, await requireIndex(ctx), `${indexBase}/namespaces/remove`, { namespace });
}

/** Reads everything and compares: by the running index, else by the offline tool. Throws Failed with every finding. */
export async function indexVerify(ctx: Context, place: IndexPlace): Promise<IndexFacts> {
  const id = await servingIndex(ctx);
  if (id === null) requireFilesHere(ctx, "verify");
  const report =
    id === null
      ? await runIndexTool(place.tools, "verify", join(place.state, "index"))
      : await runIndexJob(ctx, id, `${indexBase}/verify`);
  const findings = Array.isArray(report["findings"]) ? report["findings"].map(String) : [];
  if (findings.length === 0) return { ...report, offline: id === null };
  throw new Failed(findings.length === 1 ? "the index is damaged" : `the index is damaged in ${String(findings.length)} places`, {
    because: findings.join("\n"),
    nextSteps: [
      "gpuctl deploy index, which restarts it: it makes its database again from snapshot and log",
      "gpuctl index restore",
    ],
    data: { findings },
  });
}

/** Copies the index into a directory that must not exist yet, with hashes and the identity of its model. */
export async function indexBackup(ctx: Context, place: IndexPlace, directory: string): Promise<IndexFacts> {
  requireFilesHere(ctx, "backup");
  const id = await servingIndex(ctx);
  const made =
    id === null
      ? await runIndexTool(place.tools, "backup", join(place.state, "index"), ["--to", directory])
      : await runIndexJob(ctx, id, "/private/backup", { directory });
  return { ...made, directory };
}

export interface RestoreRequest {
  /** A backup's directory or .tar file. */
  from: string;
  confirm: string | undefined;
  otherModel: boolean;
  lockWait: Milliseconds;
}

/**
 * Replaces the index by a backup. The backup is checked before anything is replaced, what was there is moved aside and never
 * deleted, and the index starts again whatever happened: with the backup, or with what it held before.
 */
export async function indexRestore(ctx: Context, place: IndexPlace, request: RestoreRequest): Promise<IndexFacts> {
  const { environment } = ctx.config;
  if (request.confirm !== environment) {
    throw new UsageError(`restore replaces the index of environment ${environment}, which does not answer meanwhile`, {
      because: request.confirm === undefined ? "its name must be given to confirm that" : `${request.confirm} is not its name`,
      nextSteps: [`gpuctl index restore --from ${request.from} --confirm ${environment}`],
    });
  }
  requireFilesHere(ctx, "restore");
  return withLease(ctx, "index restore", request.lockWait, async (session) => {
    const generation = await generationServed(ctx);
    const ran = await stopIndex(session);
    try {
      const model = generation === null ? [] : ["--generation", generation];
      const args = ["--from", request.from, ...model, ...(request.otherModel ? ["--other-model"] : [])];
      const made = await runIndexTool(place.tools, "restore", join(place.state, "index"), args);
      await ctx.audit.append({ action: "index restore", release: null, detail: `from ${request.from}` });
      return made;
    } finally {
      if (ran) await mend(session, keepCurrent);
    }
  });
}

/** The offline tool works on files of this machine; those of an index on a host are there. */
function requireFilesHere({ config }: Pick<Context, "config">, command: string): void {
  const { targetSettings: settings } = config;
  const node = configuredEndpoints(config, "index")[0]?.node ?? null;
  if (settings?.target !== "compose" || node === null) return;
  const layout = new HostLayout(settings.dataDirectory ?? defaultDataDirectory, config.project, config.environment);
  throw new PreflightRefused(`index ${command} cannot be done from here`, {
    because: `it works on the files of the index, which are in ${layout.index} on ${node}`,
    nextSteps: ["gpuctl index snapshot", `docker compose -f ${layout.composeFile} stop, then copy that folder   # on ${node}`],
  });
}

/** The embedding space that is deployed: a backup of another one is refused unless that is what is wanted. */
async function generationServed(ctx: Context): Promise<string | null> {
  const id = await servingIndex(ctx);
  if (id === null) return null;
  const { generation } = (await askIndex(ctx, id, `${indexBase}/stats`)).body as { generation?: unknown };
  return typeof generation === "string" && generation !== "" ? generation : null;
}

/** Stops the index; whether anything of the environment ran, so that the index should run too: also after a restore that was killed. */
async function stopIndex({ ctx, target }: Session): Promise<boolean> {
  const running = (await ctx.driver.observe()).instances.filter(({ process }) => process.state === "running");
  for (const { id, service, traffic } of running) {
    if (service !== "index") continue;
    if (traffic === "open") await target.close(id, drain);
    await target.stop(id, null);
  }
  return running.length > 0;
}
