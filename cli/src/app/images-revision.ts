import { ms } from "../domain/units.js";
import type { ImageTools, SourceRevision } from "../ports/images.js";

const unknown: SourceRevision = { revision: "unknown", created: null };

/** Asks git, when this gpuctl is a checkout of its own; a packed one has it from its build, and nothing from where it is installed. */
export async function sourceRevision({ executor, signal, packageRoot, context }: ImageTools): Promise<SourceRevision> {
  const git = async (...args: string[]): Promise<string | null> => {
    const run = executor.run({ argv: ["git", "-C", packageRoot, ...args] }, { deadline: ms(10_000), signal });
    const result = await run.catch(() => null);
    return result?.code === 0 ? result.stdout : null;
  };
  if ((await git("rev-parse", "--show-prefix"))?.trim() !== "") return (await context.packedRevision()) ?? unknown;
  const [revision = "", created = ""] = ((await git("log", "-1", "--format=%H %cI")) ?? "").trim().split(" ");
  if (!/^[0-9a-f]{40,64}$/.test(revision)) return unknown;
  const changed = (await git("status", "--porcelain", "--", context.directory)) ?? "";
  return { revision: changed.trim() === "" ? revision : `${revision}-dirty`, created };
}
