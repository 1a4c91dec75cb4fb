import { ms } from "../../../domain/units.js";
import type { Progress } from "../../../ports.js";
import type { ImagePart, SavedImage } from "../../images/saved-images.js";
import { dockerError } from "./docker-errors.js";
import type { HostCommands } from "./host-commands.js";

/** An image with CUDA is 5 GB; at 3 MB/s that takes half an hour. */
const deliveryDeadline = ms(1_800_000);

/** Prints the layers of every image of the host, a line each. */
const layersOf = `ids=$(docker image ls --all --quiet --no-trunc | sort -u)
if [ -n "$ids" ]; then docker image inspect --format '{{json .RootFS.Layers}}' $ids; fi`;

/**
 * Arguments: FOLDER, then NAME PATH again and again. Puts together what was sent and gives it to Docker. What was sent stays where that
 * fails, so that it is not sent again.
 */
const loading = `cd "$1" && shift || exit 1
rm -rf whole && mkdir whole || exit 1
while [ $# -gt 0 ]; do
  mkdir -p "whole/$(dirname "$2")" && gzip -dc "$1" >"whole/$2" || exit 1
  shift 2
done
tar -C whole -cf - . | docker load --quiet >&2; s=$?
rm -rf whole; exit $s`;

/**
 * Arguments: PARENT MINE. Removes what another delivery left behind and nobody has continued for a week; one that goes on now has
 * files that are younger.
 */
const sweeping = `for d in "$1"/*/; do
  d=\${d%/}
  if [ "$d" = "$2" ] || [ ! -d "$d" ] || [ -h "$d" ]; then continue; fi
  if [ -z "$(find "$d" -mtime -7 | head -n 1)" ]; then rm -rf "$d"; fi
done`;

/** Where what is sent waits for Docker: of all images, and of one. @param id  `sha256:<64 hex>` */
export function incomingOf({ root }: HostCommands, id: string): { incoming: string; folder: string } {
  const incoming = `${root.split("/").slice(0, -2).join("/")}/.incoming`;
  return { incoming, folder: `${incoming}/${id.replace("sha256:", "").slice(0, 24)}` };
}

/** Sends an image of this machine over the transport that reaches the host anyway, without the layers that it has. */
export async function deliverImage(
  commands: HostCommands,
  saved: SavedImage,
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  const { incoming, folder } = incomingOf(commands, saved.id);
  await commands.must({ argv: ["mkdir", "-p", "-m", "700", folder] }, `${folder} could not be made`, { signal });
  const failure = `what was left in ${incoming} could not be removed`;
  await commands.prepare({ text: sweeping, args: [incoming, folder], failure, signal });
  const present = presentLayers(saved.layers, await hostLayers(commands, signal));
  const lacking = saved.parts.filter(({ layer }) => layer === null || layer >= present);
  await sendParts(commands, folder, lacking, progress, signal);
  const first = await load(commands, folder, lacking, signal);
  if (first.code !== 0) {
    // A containerd store wants every layer in what it loads, also those that it has.
    if (lacking.length === saved.parts.length) throw dockerError(attempt(commands), first);
    await sendParts(commands, folder, saved.parts, progress, signal);
    const again = await load(commands, folder, saved.parts, signal);
    if (again.code !== 0) throw dockerError(attempt(commands), again);
  }
  await commands.must({ argv: ["rm", "-rf", folder] }, `${folder} could not be removed`, { signal });
}

const attempt = ({ node, root }: HostCommands): { node: string; root: string; failure: string } => ({
  node,
  root,
  failure: "the image that was sent could not be loaded",
});

/** How many of an image's lowest layers a host has, one upon the other as they are in the image. */
export function presentLayers(layers: readonly string[], images: readonly (readonly string[])[]): number {
  const common = images.map((image) => {
    const differs = layers.findIndex((layer, position) => image[position] !== layer);
    return differs < 0 ? layers.length : differs;
  });
  return Math.max(0, ...common);
}

async function hostLayers(commands: HostCommands, signal: AbortSignal): Promise<readonly (readonly string[])[]> {
  const said = await commands.look({
    text: layersOf,
    args: [],
    failure: "the images of the host could not be looked at",
    signal,
  });
  return said
    .split("\n")
    .filter((line) => line.startsWith("["))
    .map((line) => JSON.parse(line) as string[]);
}

async function sendParts(
  commands: HostCommands,
  folder: string,
  parts: readonly ImagePart[],
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  const host = await commands.host(signal);
  const total = parts.reduce((sum, { bytes }) => sum + bytes, 0);
  const label = `sending an image to ${commands.node}`;
  let before = 0;
  for (const part of parts) {
    const { file: local, sha256, bytes } = part;
    const at = before;
    const onBytes = (done: number): void => progress.emit({ kind: "amount", label, done: at + done, total, unit: "bytes" });
    const file = { local, remote: `${folder}/${nameOf(part)}`, mode: 0o600, sha256 };
    await host.sendFile(file, { deadline: deliveryDeadline, signal, onBytes });
    before += bytes;
  }
}

const nameOf = ({ sha256 }: ImagePart): string => `${sha256}.gz`;

function load(
  commands: HostCommands,
  folder: string,
  parts: readonly ImagePart[],
  signal: AbortSignal,
): ReturnType<HostCommands["attempt"]> {
  const args = [folder, ...parts.flatMap((part) => [nameOf(part), part.path])];
  return commands.attempt({ argv: ["sh", "-c", loading, "gpuctl", ...args] }, { deadline: deliveryDeadline, signal });
}
