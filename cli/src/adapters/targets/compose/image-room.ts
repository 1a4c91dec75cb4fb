import { sha256 } from "../../../domain/canonical.js";
import { readImageManifest, roomFor, type ImageManifest } from "../../../domain/compose/image-manifest.js";
import { ConfigInvalid, Failed } from "../../../domain/errors.js";
import { isInsecure, serverOf } from "../../../domain/images/registry.js";
import { ms } from "../../../domain/units.js";
import type { LocalImageFacts } from "../../images/saved-images.js";
import type { HostCommands } from "./host-commands.js";
import { incomingOf } from "./image-delivery.js";
import { askingRegistry, type ImageSource, type RegistryLogin } from "./images.js";

/** A registry that does not answer must not hold up a preflight: its size is then not known. */
const patience = ms(20_000);

/** Arguments: DIGEST… of layers as they are sent. Prints those that are here, by what either of Docker's stores notes of them. */
const presenting = `root=$(docker info --format '{{.DockerRootDir}}') || exit 1
ids=$(docker image ls --all --quiet --no-trunc | sort -u)
have=$([ -z "$ids" ] || docker image inspect --format '{{range .RootFS.Layers}}{{.}} {{end}}' $ids 2>/dev/null | tr '\\n' ' ')
for layer; do
  if [ -e "/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256/\${layer#sha256:}" ]; then echo "$layer"; continue; fi
  unpacked=$(cat "$root"/image/*/distribution/diffid-by-digest/sha256/"\${layer#sha256:}" 2>/dev/null) || continue
  case " $have " in *" $unpacked "*) echo "$layer" ;; esac
done`;

/**
 * Arguments: FOLDER, then the chain id of every layer, lowest first. Prints the KiB that lie in the folder, then the bytes of each layer
 * that Docker has, up to the first that it lacks. A containerd store, which wants every layer in what it loads, has no such folder.
 */
const keeping = `said=$(docker info --format '{{.DockerRootDir}} {{.Driver}}') || exit 1
layers="\${said% *}/image/\${said##* }/layerdb/sha256"
set -- "$(du -sk "$1" 2>/dev/null | cut -f 1)" "$@"
echo "\${1:-0}"; shift 2
for chain; do bytes=$(cat "$layers/$chain/size" 2>/dev/null) || break; echo "$bytes"; done`;

/**
 * What lies in the data directory for each byte of what is sent: a whole copy, put together for `docker load`, and the parts that it is
 * put together from, compressed to about half. An estimate: PyTorch and CUDA come below it.
 */
const sentPerByte = 1.5;

/** What an image that is not on a host yet takes there, bytes. */
export interface ImageRoom {
  /** On Docker's disk from then on; for one from a registry also while it is unpacked. */
  kept: number;
  /** On Docker's disk only until it is loaded. */
  passing: number;
  /** In the data directory, only while it is sent. */
  sent: number;
}

/** Room that an image which is not on the host yet will take there; null when nobody says. @param machine  `uname -m` there */
export async function imageRoom(
  commands: HostCommands,
  { reference, local, login }: ImageSource,
  machine: string,
): Promise<ImageRoom | null> {
  if (local !== null) return sentRoom(commands, reference, await local.look(new AbortController().signal));
  const ask = (name: string): Promise<ImageManifest | null> => inspect(commands, { reference: name, login }, machine);
  let manifest = await ask(reference);
  if (manifest?.kind === "list") manifest = await ask(reference.replace(/(?:@.*)?$/, `@${manifest.digest}`));
  if (manifest?.kind !== "image") return null;
  const { layers } = manifest;
  commands.layersToPull.set(reference, layers);
  const digests = layers.map(({ digest }) => digest);
  const present = await commands.attempt({ argv: ["sh", "-c", presenting, "gpuctl", ...digests], looks: true });
  const kept = roomFor(layers, new Set(present.code === 0 ? present.stdout.split("\n") : []));
  return { kept, passing: 0, sent: 0 };
}

/** `docker load` unpacks what it reads beside what it then makes of it. Layers that the host has, and parts that are there, are not sent. */
async function sentRoom(commands: HostCommands, id: string, image: LocalImageFacts | null): Promise<ImageRoom | null> {
  if (image === null) return null;
  const { folder } = incomingOf(commands, id);
  const argv = ["sh", "-c", keeping, "gpuctl", folder, ...chainIds(image.layers)] as const;
  const { code, stdout } = await commands.attempt({ argv, looks: true });
  const [waiting = 0, ...present] = code === 0 ? stdout.trim().split("\n").map(Number) : [];
  const missing = Math.max(0, image.bytes - present.reduce((sum, bytes) => sum + bytes, 0));
  return { kept: missing, passing: missing, sent: Math.max(0, missing * sentPerByte - waiting * 1024) };
}

/** A layer upon those below it, as Docker's own store and the image specification name it. */
function chainIds(layers: readonly string[]): string[] {
  const chains: string[] = [];
  for (const layer of layers) {
    const below = chains.at(-1);
    chains.push(below === undefined ? layer.replace("sha256:", "") : sha256(`sha256:${below} ${layer}`));
  }
  return chains;
}

/** The manifest as the registry has it, asked by Docker's client on the host, with the account that a pull has. */
async function inspect(
  commands: HostCommands,
  { reference, login }: { reference: string; login: RegistryLogin | undefined },
  machine: string,
): Promise<ImageManifest | null> {
  const options = { deadline: patience };
  try {
    const info = await commands.attempt({ argv: ["docker", "info", "--format", "{{json .RegistryConfig}}"] }, options);
    const plain = isInsecure(serverOf(reference), info.stdout) ? ["--insecure"] : [];
    const command = await askingRegistry(["docker", "manifest", "inspect", ...plain, reference], login);
    const { code, stdout } = await commands.attempt({ ...command, looks: true }, options);
    return code === 0 ? readImageManifest(stdout, machine) : null;
  } catch (error) {
    // Past the deadline, or without the password that the pull will ask for; what cannot be reached is found by everything else too.
    if (error instanceof Failed || error instanceof ConfigInvalid) return null;
    throw error;
  }
}
