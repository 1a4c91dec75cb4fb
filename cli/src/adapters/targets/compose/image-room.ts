import { readImageManifest, roomFor, type ImageManifest } from "../../../domain/compose/image-manifest.js";
import { Failed } from "../../../domain/errors.js";
import { isInsecure, serverOf } from "../../../domain/images/registry.js";
import { ms } from "../../../domain/units.js";
import type { HostCommands } from "./host-commands.js";
import type { ImageSource } from "./images.js";

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

/** Room that an image which is not on the host yet will take there, bytes; null when nobody says. @param machine  `uname -m` there */
export async function imageRoom(
  commands: HostCommands,
  { reference, local }: ImageSource,
  machine: string,
): Promise<number | null> {
  if (local !== null) {
    const bytes = await local.bytes(new AbortController().signal);
    // What is sent lies beside what is loaded from it.
    return bytes === null ? null : 2 * bytes;
  }
  let manifest = await inspect(commands, reference, machine);
  if (manifest?.kind === "list")
    manifest = await inspect(commands, reference.replace(/(?:@.*)?$/, `@${manifest.digest}`), machine);
  if (manifest?.kind !== "image") return null;
  const { layers } = manifest;
  const digests = layers.map(({ digest }) => digest);
  const present = await commands.attempt({ argv: ["sh", "-c", presenting, "gpuctl", ...digests] });
  return roomFor(layers, new Set(present.code === 0 ? present.stdout.split("\n") : []));
}

/** The manifest as the registry has it, asked by Docker's client on the host, with the credentials that it has there. */
async function inspect(commands: HostCommands, reference: string, machine: string): Promise<ImageManifest | null> {
  const options = { deadline: patience };
  try {
    const info = await commands.attempt({ argv: ["docker", "info", "--format", "{{json .RegistryConfig}}"] }, options);
    const plain = isInsecure(serverOf(reference), info.stdout) ? ["--insecure"] : [];
    const { code, stdout } = await commands.attempt({ argv: ["docker", "manifest", "inspect", ...plain, reference] }, options);
    return code === 0 ? readImageManifest(stdout, machine) : null;
  } catch (error) {
    // Past the deadline; what cannot be reached at all is found by everything else too.
    if (error instanceof Failed) return null;
    throw error;
  }
}
