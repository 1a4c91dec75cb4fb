import { Failed, PreflightRefused } from "../../../domain/errors.js";
import { modelVolume } from "../../../domain/compose/names.js";
import { modelsOf, type ModelRef, type ServiceSpec } from "../../../domain/release.js";
import { ms } from "../../../domain/units.js";
import type { ModelStore, Progress } from "../../../ports.js";
import type { HostCommands } from "./host-commands.js";

/** A model of 5 GB at 3 MB/s takes half an hour. */
const deliveryDeadline = ms(1_800_000);

/** Written last, into the volume: the manifest's hash, then size and time of every file as they were when they were hashed. */
const seal = ".gpuctl-complete";

/** Arguments: VOLUME MANIFEST. Prints the directory of a volume on the host, and below it whether it is sealed and untouched. */
const looking = `m=$(docker volume inspect --format '{{.Mountpoint}}' "$1" 2>/dev/null) || { echo none; exit 0; }
if [ ! -d "$m" ]; then echo "hidden $m"; exit 0; fi
cd "$m" || exit 1
if [ "$(head -n 1 ${seal} 2>/dev/null)" != "$2" ]; then echo "part $m"
elif tail -n +2 ${seal} | while read -r facts name; do [ "$(stat -c '%s-%Y' "$name" 2>/dev/null)" = "$facts" ] || exit 1; done; then echo "whole $m"
else echo "changed $m"; fi`;

/** Arguments: DIRECTORY MANIFEST, then HASH FILE again and again. Hashes every file and seals the volume; names what is wrong. */
const sealing = `cd "$1" || exit 1
manifest=$2; shift 2; rm -f ${seal}; printf '%s\\n' "$manifest" >.sealing
while [ $# -gt 0 ]; do
  if [ "$(sha256sum <"$2" | cut -c1-64)" != "$1" ]; then echo "$2 is not what was sent" >&2; rm -f "$2" .sealing; exit 1; fi
  printf '%s %s\\n' "$(stat -c '%s-%Y' "$2")" "$2" >>.sealing
  shift 2
done
chmod 444 .sealing; sync .sealing 2>/dev/null || sync; mv .sealing ${seal}`;

interface VolumeState {
  state: "none" | "hidden" | "part" | "changed" | "whole";
  directory: string;
}

export interface ModelDelivery {
  commands: HostCommands;
  models: Pick<ModelStore, "find">;
  progress: Progress;
}

/** Whether every model of a spec lies on the host, complete, and looks as it did when it was hashed there. */
export async function hasModels(commands: HostCommands, spec: ServiceSpec): Promise<boolean> {
  return (await missingModels(commands, spec)).length === 0;
}

/** Models of a spec that are not on the host, or not as they were when they were hashed there. */
export async function missingModels(commands: HostCommands, spec: ServiceSpec): Promise<readonly ModelRef[]> {
  const models = modelsOf(spec);
  const found = await Promise.all(models.map((ref) => lookAt(commands, ref)));
  return models.filter((_, i) => found[i]?.state !== "whole");
}

/** Makes the models of a spec present, each in a volume of its own, with every file hashed on the host. Says what it found. */
export async function stageVolumes(delivery: ModelDelivery, spec: ServiceSpec, signal: AbortSignal): Promise<string> {
  const lines: string[] = [];
  for (const ref of modelsOf(spec)) lines.push(await stageVolume(delivery, ref, signal));
  return lines.join("; ") || "no model";
}

async function stageVolume(delivery: ModelDelivery, ref: ModelRef, signal: AbortSignal): Promise<string> {
  const { commands } = delivery;
  const volume = modelVolume(ref);
  const what = `${ref.id}@${ref.revision}`;
  let found = await lookAt(commands, ref);
  if (found.state === "whole") return `${what} is on ${commands.node}`;
  if (found.state === "none") {
    const labels = ["--label", `dev.gpuctl.model=${what}`, "--label", `dev.gpuctl.manifest=${ref.manifest}`];
    await commands.must({ argv: ["docker", "volume", "create", ...labels, volume] }, `the volume ${volume} could not be made`);
    found = await lookAt(commands, ref);
    // In a dry run there is still none.
    if (found.state === "none") found = { state: "part", directory: `<directory of the volume ${volume}>` };
  }
  if (found.state === "hidden") throw hidden(commands.node, found.directory);
  const files = [...Object.entries(ref.files), ["manifest.json", ref.manifest] as const];
  await sendFiles(delivery, ref, found.directory, files, signal);
  await commands.prepare({
    text: sealing,
    args: [found.directory, ref.manifest, ...files.flatMap(([name, hash]) => [hash, name])],
    failure: `the model ${ref.name} did not arrive as it is`,
    deadline: ms(600_000),
    signal,
  });
  return `${what}: ${files.length} files sent to ${commands.node}, hashes verified there`;
}

/** File by file; each continues what an earlier attempt left, and has its name only when its hash is right. */
async function sendFiles(
  { commands, models, progress }: ModelDelivery,
  ref: ModelRef,
  directory: string,
  files: readonly (readonly [string, string])[],
  signal: AbortSignal,
): Promise<void> {
  const stored = await models.find(ref);
  if (stored === null)
    throw new PreflightRefused(`the model ${ref.name} is neither on ${commands.node} nor in the model store here`, {
      because: `${ref.id}@${ref.revision} is missing, or its manifest is another one`,
      nextSteps: ["gpuctl models fetch"],
      data: { model: ref.id, revision: ref.revision, node: commands.node },
    });
  const host = await commands.host(signal);
  for (const [name, sha256] of files) {
    const label = `sending ${ref.name}/${name} to ${commands.node}`;
    const onBytes = (done: number): void => progress.emit({ kind: "amount", label, done, total: null, unit: "B" });
    const file = { local: `${stored.directory}/${name}`, remote: `${directory}/${name}`, mode: 0o444, sha256 };
    await host.sendFile(file, { deadline: deliveryDeadline, signal, onBytes });
  }
}

async function lookAt(commands: HostCommands, ref: ModelRef): Promise<VolumeState> {
  const failure = `the volume of ${ref.name} could not be looked at`;
  const said = (await commands.look({ text: looking, args: [modelVolume(ref), ref.manifest], failure })).trim();
  const [state, ...directory] = said.split(" ");
  const known = (["none", "hidden", "part", "changed", "whole"] as const).find((each) => each === state);
  if (known === undefined) throw new Failed(failure, { because: said });
  return { state: known, directory: directory.join(" ") };
}

const hidden = (node: string, directory: string): PreflightRefused =>
  new PreflightRefused(`volumes of Docker on ${node} cannot be filled`, {
    because: `${directory} is not there for the host: its engine runs in a machine of its own, or without root`,
    nextSteps: ["use Docker Engine as root on Linux", "gpuctl doctor"],
    data: { node, directory },
  });
