import { Failed } from "../domain/errors.js";
import type { LockedModel, ModelTools } from "../ports.js";
import { type Fields, runWith } from "./serving-tool.js";

/** What the fetcher says about a model it put into the store. */
export type FetcherResult = LockedModel & { selfRecorded: boolean; int8: boolean };

/** Runs the Python fetcher for one model, showing its progress. */
export async function runFetch(
  tools: ModelTools,
  python: string,
  name: string,
  spec: Readonly<Record<string, unknown>>,
): Promise<FetcherResult> {
  return understand(await run(tools, python, name, ["fetch", "--store", tools.paths.store, "--spec", JSON.stringify(spec)]));
}

/** The commit that the hub's `main` of a model is at. */
export async function newestCommit(
  tools: ModelTools,
  python: string,
  name: string,
  spec: Readonly<Record<string, unknown>>,
): Promise<string> {
  return String((await run(tools, python, name, ["resolve", "--spec", JSON.stringify(spec)]))["revision"]);
}

/** One command of the Python side; its result event. */
function run(tools: ModelTools, python: string, name: string, args: readonly string[]): Promise<Fields> {
  return runWith(tools, python, {
    module: "models",
    args,
    prefix: `${name}: `,
    failed: `fetching the model ${name} failed`,
    again: "then run gpuctl models fetch again",
    refused: (error) => refusal(name, error),
  });
}

function refusal(name: string, error: Fields): Failed {
  const text = (value: unknown): string | null => (typeof value === "string" && value !== "" ? value : null);
  const because = [text(error["message"]), text(error["because"])].filter((part) => part !== null).join(": ");
  return new Failed(`the model ${name} could not be fetched`, {
    because,
    nextSteps: [text(error["next"]) ?? "gpuctl models fetch, again"],
  });
}

function understand(result: Readonly<Record<string, unknown>>): FetcherResult {
  const { id, revision, manifest, files, probes, dtype } = result as unknown as {
    id: string;
    revision: string;
    manifest: string;
    files: Record<string, { sha256: string }>;
    probes: { origin: string };
    dtype?: string;
  };
  const hashes = Object.fromEntries(Object.entries(files).map(([file, { sha256 }]) => [file, sha256]));
  return { id, revision, manifest, files: hashes, selfRecorded: probes.origin === "self-recorded", int8: dtype === "int8" };
}
