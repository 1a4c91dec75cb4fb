import { PullMeter } from "../../../domain/compose/pull-meter.js";
import { Failed } from "../../../domain/errors.js";
import { ms } from "../../../domain/units.js";
import type { Command, Lease, Progress } from "../../../ports.js";
import type { LocalImageFacts, SavedImage } from "../../images/saved-images.js";
import type { HostCommands } from "./host-commands.js";
import { dockerError } from "./docker-errors.js";
import { deliverImage } from "./image-delivery.js";
import { othersParts } from "./other-environments.js";

/** An image of a release, pinned, and how it gets to a host. */
export interface ImageSource {
  /** `name@sha256:…`, or `sha256:…` of one that is sent. */
  reference: string;
  /** The Docker of this machine as its source, for an environment without a registry; null: the host pulls it. */
  local: LocalImage | null;
  /** What the registry asks for, where gpuctl.yaml names it; without, the host shows what it has itself. */
  login?: RegistryLogin;
}

/** Who a host is to its registry, for as long as one command takes. */
export interface RegistryLogin {
  server: string;
  username: string;
  password(): Promise<string>;
}

/** An image in the Docker of this machine. */
export interface LocalImage {
  /** What is known without saving it; null when this machine does not have it. */
  look(signal: AbortSignal): Promise<LocalImageFacts | null>;
  /** Saved, in pieces to send; takes minutes the first time. */
  open(signal: AbortSignal): Promise<SavedImage>;
}

/** An image with CUDA is 5 GB; at 3 MB/s that takes half an hour. */
const deliveryDeadline = ms(1_800_000);

/**
 * Arguments: SERVER USER COMMAND…; the password is the input. Docker notes it in a folder in memory that goes with the command, so
 * nothing of it stays on the host.
 */
const loggedIn = `umask 077; DOCKER_CONFIG=$(mktemp -d /dev/shm/gpuctl-login.XXXXXXXX) || exit 1; export DOCKER_CONFIG
trap 'rm -rf "$DOCKER_CONFIG"' EXIT; trap 'exit 129' HUP; trap 'exit 143' TERM
docker login --username "$2" --password-stdin "$1" >"$DOCKER_CONFIG/said" 2>&1 || { cat "$DOCKER_CONFIG/said" >&2; exit 1; }
shift 2; "$@" </dev/null`;

/** Whether the host has an image, by its digest. Throws when Docker cannot be asked. */
export async function hasImage(commands: HostCommands, reference: string): Promise<boolean> {
  const result = await commands.attempt({ argv: ["docker", "image", "inspect", "--format", "{{.Id}}", reference] });
  if (result.code === 0) return true;
  if (/no such image|not found/i.test(result.stderr)) return false;
  throw dockerError({ node: commands.node, root: commands.root, failure: `${reference} could not be looked for` }, result);
}

/** Makes an image present by its digest; says how. Done again after an interruption, it goes on where it was. */
export async function stageImage(
  commands: HostCommands,
  image: ImageSource,
  progress: Progress,
  signal: AbortSignal,
): Promise<string> {
  const { reference, local, login } = image;
  const name = shortName(reference);
  if (await hasImage(commands, reference)) return `${name} is on ${commands.node}`;
  let how = "was sent to";
  if (local === null) how = await pull(commands, { reference, login }, progress, signal);
  else await deliverImage(commands, await local.open(signal), progress, signal);
  if (await hasImage(commands, reference)) return `${name} ${how} ${commands.node}`;
  throw new Failed(`${reference} is not on ${commands.node}, although it was delivered`, {
    because: "what came has another digest",
    nextSteps: ["gpuctl images push", `docker images --digests   # on ${commands.node}`],
  });
}

/** A command of Docker that asks a registry, as the account of gpuctl.yaml where there is one. */
export async function askingRegistry(argv: Command["argv"], login: RegistryLogin | undefined): Promise<Command> {
  if (login === undefined) return { argv };
  return { argv: ["sh", "-c", loggedIn, "gpuctl", login.server, login.username, ...argv], input: await login.password() };
}

async function pull(
  commands: HostCommands,
  { reference, login }: { reference: string; login: RegistryLogin | undefined },
  progress: Progress,
  signal: AbortSignal,
): Promise<string> {
  const meter = new PullMeter(`${shortName(reference)} on ${commands.node}`, commands.layersToPull.get(reference) ?? []);
  const onLine = (line: string): void => {
    const amount = meter.line(line);
    if (amount !== null) progress.emit({ kind: "amount", ...amount });
  };
  const failure = `${reference} could not be pulled`;
  const command = await askingRegistry(["docker", "pull", reference], login);
  await commands.must(command, failure, { deadline: deliveryDeadline, signal, onLine });
  return "was pulled to";
}

/**
 * Arguments: ROOT, then references. Says of each image whether it is `gone`, a container of anybody uses it, a release of another
 * environment of the host names it (`shared`), or it is `idle`. Images without a registry have no other source than who sent them, so
 * what others may go back to stays.
 */
const surveying = `${othersParts}
ids=$(docker ps --all --quiet --no-trunc) || exit
used=
if [ -n "$ids" ]; then used=$(docker inspect --format '{{.Image}} {{.Config.Image}}' $ids 2>/dev/null); fi
for ref in "$@"; do
  if ! id=$(docker image inspect --format '{{.Id}}' "$ref" 2>&1); then
    case $id in *[Nn]"o such image"*|*"not found"*) echo "gone $ref"; continue ;; esac
    echo "$id" >&2; exit 1
  fi
  case $used in *"$id"*|*"$ref"*) echo "used $ref"; continue ;; esac
  if others_name "$ref" >/dev/null; then echo "shared $ref"; else echo "idle $ref"; fi
done`;

/** Which of some images are not on a host any more, and which of them nothing there needs. */
export async function surveyImages(
  commands: HostCommands,
  references: readonly string[],
): Promise<{ gone: ReadonlySet<string>; idle: readonly string[] }> {
  if (references.length === 0) return { gone: new Set(), idle: [] };
  const args = [commands.root, ...references];
  const said = await commands.look({ text: surveying, args, failure: "the images of the host could not be looked at" });
  const those = (state: string): string[] =>
    said
      .split("\n")
      .filter((line) => line.startsWith(`${state} `))
      .map((line) => line.slice(state.length + 1));
  return { gone: new Set(those("gone")), idle: those("idle") };
}

/** Frees an image that nothing uses any more; the bytes, or null when something still does. */
export async function removeImage(commands: HostCommands, reference: string, lease: Lease): Promise<number | null> {
  const text = `size=$(docker image inspect --format '{{.Size}}' "$1" 2>/dev/null) || { echo none; exit 0; }
if docker image rm "$1" >/dev/null 2>&1; then echo "$size"; else echo none; fi`;
  const said = await commands.change(lease, { text, args: [reference], failure: `${reference} could not be removed` });
  return /^\d+$/.test(said.trim()) ? Number(said.trim()) : null;
}

/** `gpuctl/services@sha256:1f3c…`, for people. */
const shortName = (reference: string): string =>
  reference.replace(/(sha256:[0-9a-f]{12})[0-9a-f]+$/, "$1").replace(/^[^/@]+\.[^/@]+\//, "");
