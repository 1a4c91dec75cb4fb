import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import type { Sha256 } from "../../../domain/names.js";
import type { InstanceObservation } from "../../../ports.js";
import { readKeeperIdentity } from "./desired-file.js";
import type { LaunchDocument } from "./launch-document.js";
import type { StateLayout } from "./state-layout.js";

/** Wheels and (shortened) locks that the keeper and the instances run from, whatever the release records say. */
export async function usedCode(
  layout: StateLayout,
  documents: readonly LaunchDocument[],
  instances: readonly InstanceObservation[],
): Promise<{ wheels: ReadonlySet<Sha256>; locks: ReadonlySet<string> }> {
  const live = new Set(instances.filter(({ process }) => process.state !== "stopped").map(({ id }) => id));
  const used = documents.filter(({ id }) => live.has(id));
  const keeper = await readKeeperIdentity(layout.keeperFile);
  const environ = keeper === null ? "" : await readFile(`/proc/${keeper.pid.toString()}/environ`, "utf8").catch(() => "");
  const keeperPath = /(?:^|\0)PYTHONPATH=([^\0]*)/.exec(environ)?.[1] ?? "";
  const wheels = [...used.map((document) => document.env["PYTHONPATH"] ?? ""), keeperPath].flatMap(
    (path) => /^([0-9a-f]{64})\.whl$/.exec(basename(path))?.[1] ?? [],
  );
  const locks = used.flatMap((document) => /\/([0-9a-f]{16})-cp3\d+\//.exec(document.argv[0] ?? "")?.[1] ?? []);
  return { wheels: new Set(wheels), locks: new Set(locks) };
}
