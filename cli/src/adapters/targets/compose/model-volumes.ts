import { stat } from "node:fs/promises";
import { Failed, PreflightRefused } from "../../../domain/errors.js";
import { modelVolume } from "../../../domain/compose/names.js";
import { modelsOf, type ModelRef, type ServiceSpec } from "../../../domain/release.js";
import { ms } from "../../../domain/units.js";
import type { ModelStore, Progress } from "../../../ports.js";
import type { HostCommands } from "./host-commands.js";
import { fetchOnNode, type NodeFetching } from "./node-fetching.js";

/** A model of 5 GB at 3 MB/s takes half an hour. */
const deliveryDeadline = ms(1_800_000);

/** Written last, into the volume: the manifest's hash, then size and times of every file as they were when they were hashed. */
const seal = ".gpuctl-complete";

/**
 * Arguments: VOLUME MANIFEST. Prints the directory of a volume on the host, and before it whether it is sealed and untouched; in the
 * lines after it the files that changed. `touched`: only what nobody can set back says so, as after a backup that made links.
 */
const looking = `m=$(docker volume inspect --format '{{.Mountpoint}}' "$1" 2>/dev/null) || { echo none; exit 0; }
if [ ! -d "$m" ]; then echo "hidden $m"; exit 0; fi
cd "$m" || exit 1
if [ "$(head -n 1 ${seal} 2>/dev/null)" != "$2" ]; then echo "part $m"; exit 0; fi
differing=$(tail -n +2 ${seal} | while read -r facts name; do
  now=$(stat -c '%s-%Y-%Z' "$name" 2>/dev/null)
  if [ "$now" = "$facts" ]; then continue; fi
  if [ "\${now%-*}" = "\${facts%-*}" ]; then echo touched; else echo "changed $name"; fi
done)
case $differing in
  '') echo "whole $m" ;;
  *changed*) echo "changed $m"; echo "$differing" | sed -n 's/^changed //p' ;;
  *) echo "touched $m" ;;
esac`;

/** Arguments: DIRECTORY MANIFEST, then HASH FILE again and again. Hashes every file and seals the volume, or prints which one is wrong. */
const sealing = `cd "$1" || exit 1
manifest=$2; shift 2; printf '%s\\n' "$manifest" >.sealing
while [ $# -gt 0 ]; do
  if [ "$(sha256sum <"$2" | cut -c1-64)" != "$1" ]; then echo "$2"; rm -f .sealing; exit 0; fi
  printf '%s %s\\n' "$(stat -c '%s-%Y-%Z' "$2")" "$2" >>.sealing
  shift 2
done
chmod 444 .sealing; sync .sealing 2>/dev/null || sync; mv .sealing ${seal}`;

interface VolumeState {
  state: "none" | "hidden" | "part" | "changed" | "touched" | "whole";
  directory: string;
  /** Files that are not as they were when they were hashed. */
  changed: readonly string[];
}

/** A model that is not on a host as a release needs it. */
export interface MissingModel {
  ref: ModelRef;
  /** Its files there that changed. */
  changed: readonly string[];
}

export interface ModelDelivery {
  commands: HostCommands;
  models: Pick<ModelStore, "find">;
  progress: Progress;
  /** Set where nodes fetch what they can themselves. */
  fetching: NodeFetching | null;
}

/** Whether every model of a spec lies on the host, complete, and looks as it did when it was hashed there. */
export async function hasModels(commands: HostCommands, spec: ServiceSpec): Promise<boolean> {
  return (await missingModels(commands, modelsOf(spec))).length === 0;
}

/** Those models that are not on the host, or not as they were when they were hashed there. */
export async function missingModels(commands: HostCommands, models: readonly ModelRef[]): Promise<readonly MissingModel[]> {
  const found = await Promise.all(models.map(async (ref) => ({ ref, ...(await lookAt(commands, ref)) })));
  return found.filter(({ state }) => state !== "whole" && state !== "touched");
}

/** Makes the models of a spec present, each in a volume of its own, with every file hashed on the host. Says what it found. */
export async function stageVolumes(delivery: ModelDelivery, spec: ServiceSpec, signal: AbortSignal): Promise<string> {
  const lines: string[] = [];
  for (const ref of modelsOf(spec)) lines.push(await stageVolume(delivery, ref, signal));
  return lines.join("; ") || "no model";
}

async function stageVolume(delivery: ModelDelivery, ref: ModelRef, signal: AbortSignal): Promise<string> {
  const { commands } = delivery;
  const what = `${ref.id}@${ref.revision}`;
  const found = await madeVolume(commands, ref);
  if (found.state === "whole") return `${what} is on ${commands.node}`;
  if (found.state === "hidden") throw hidden(commands.node, found.directory);
  const { directory } = found;
  let damaged: string | null = null;
  if (found.state === "changed" || found.state === "touched") {
    damaged = await sealed(commands, ref, directory, signal);
    if (damaged === null) return `${what} is on ${commands.node}: its files were touched, and have their hashes`;
  }
  const how = await bring(delivery, ref, directory, damaged, signal);
  const wrong = await sealed(commands, ref, directory, signal);
  if (wrong === null) return `${what}: ${how} ${commands.node}, hashes verified there`;
  throw new Failed(`the model ${ref.name} did not arrive on ${commands.node} as it is`, {
    because: `${wrong} there is not the file of this release`,
    nextSteps: ["gpuctl models verify", "then run the command again"],
    data: { model: ref.id, revision: ref.revision, node: commands.node, file: wrong },
  });
}

/** The volume of a model, which is made when there is none. */
async function madeVolume(commands: HostCommands, ref: ModelRef): Promise<VolumeState> {
  const found = await lookAt(commands, ref);
  if (found.state !== "none") return found;
  const volume = modelVolume(ref);
  const labels = ["--label", `dev.gpuctl.model=${ref.id}@${ref.revision}`, "--label", `dev.gpuctl.manifest=${ref.manifest}`];
  await commands.must({ argv: ["docker", "volume", "create", ...labels, volume] }, `the volume ${volume} could not be made`);
  const made = await lookAt(commands, ref);
  // In a dry run there is still none.
  return made.state === "none" ? { state: "part", directory: `<directory of the volume ${volume}>`, changed: [] } : made;
}

const manifestOf = (ref: ModelRef): readonly [string, string] => ["manifest.json", ref.manifest];
const filesOf = (ref: ModelRef): readonly (readonly [string, string])[] => [...Object.entries(ref.files), manifestOf(ref)];

/** Hashes every file on the host and seals the volume; the first file that is wrong, or null. */
async function sealed(commands: HostCommands, ref: ModelRef, directory: string, signal: AbortSignal): Promise<string | null> {
  const said = await commands.prepare({
    text: sealing,
    args: [directory, ref.manifest, ...filesOf(ref).flatMap(([name, hash]) => [hash, name])],
    failure: `the files of the model ${ref.name} could not be hashed`,
    deadline: ms(600_000),
    signal,
  });
  return said.trim() || null;
}

/** Fetched there, or sent from here; says which. @param damaged  a file there that is wrong */
async function bring(
  delivery: ModelDelivery,
  ref: ModelRef,
  directory: string,
  damaged: string | null,
  signal: AbortSignal,
): Promise<string> {
  const { commands, progress, fetching } = delivery;
  const source = fetching?.sourceOf(ref) ?? null;
  const stored = await delivery.models.find(ref);
  if (fetching !== null && source !== null) {
    await fetchOnNode({ commands, progress, fetching, directory }, ref, source, signal);
    // Answers to probes that the node recorded are its own: the release names those of its author's machine.
    if (stored !== null) await sendFiles(delivery, ref, directory, stored.directory, [manifestOf(ref)], signal);
    return `${Object.keys(ref.files).length} files fetched by`;
  }
  if (stored === null) throw nobodyHas(ref, commands.node, damaged);
  await sendFiles(delivery, ref, directory, stored.directory, filesOf(ref), signal);
  return `${filesOf(ref).length} files sent to`;
}

const nobodyHas = (ref: ModelRef, node: string, damaged: string | null): PreflightRefused =>
  new PreflightRefused(
    `the model ${ref.name} is ${damaged === null ? "neither" : "not whole"} on ${node} ${damaged === null ? "nor" : "and not"} in the model store here`,
    {
      because: `${damaged === null ? "" : `${damaged} on ${node} is not the file of this release, and `}${ref.id}@${ref.revision} is missing here, or its manifest is another one`,
      nextSteps: ["gpuctl models fetch"],
      data: { model: ref.id, revision: ref.revision, node, ...(damaged === null ? {} : { file: damaged }) },
    },
  );

/** File by file; each continues what an earlier attempt left, and has its name only when its hash is right. */
async function sendFiles(
  { commands, progress }: ModelDelivery,
  ref: ModelRef,
  directory: string,
  from: string,
  files: readonly (readonly [string, string])[],
  signal: AbortSignal,
): Promise<void> {
  const host = await commands.host(signal);
  for (const [name, sha256] of files) {
    const label = `sending ${ref.name}/${name} to ${commands.node}`;
    const file = { local: `${from}/${name}`, remote: `${directory}/${name}`, mode: 0o444, sha256 };
    const total = (await stat(file.local).catch(() => null))?.size ?? null;
    const onBytes = (done: number): void => progress.emit({ kind: "amount", label, done, total, unit: "bytes" });
    await host.sendFile(file, { deadline: deliveryDeadline, signal, onBytes });
  }
}

async function lookAt(commands: HostCommands, ref: ModelRef): Promise<VolumeState> {
  const failure = `the volume of ${ref.name} could not be looked at`;
  const said = await commands.look({ text: looking, args: [modelVolume(ref), ref.manifest], failure });
  const [line = "", ...changed] = said.trim().split("\n");
  const [word, ...directory] = line.split(" ");
  const state = (["none", "hidden", "part", "changed", "touched", "whole"] as const).find((each) => each === word);
  if (state === undefined) throw new Failed(failure, { because: said });
  return { state, directory: directory.join(" "), changed };
}

const hidden = (node: string, directory: string): PreflightRefused =>
  new PreflightRefused(`volumes of Docker on ${node} cannot be filled`, {
    because: `${directory} is not there for the host: its engine runs in a machine of its own, or without root`,
    nextSteps: ["use Docker Engine as root on Linux", "gpuctl doctor"],
    data: { node, directory },
  });
