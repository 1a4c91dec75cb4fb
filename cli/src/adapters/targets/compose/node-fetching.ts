import { type GpuctlError, PreflightRefused } from "../../../domain/errors.js";
import type { ModelSource } from "../../../domain/config/resolved.js";
import { modelVolume } from "../../../domain/compose/names.js";
import type { ModelRef } from "../../../domain/release.js";
import { ms } from "../../../domain/units.js";
import type { CommandResult, Progress } from "../../../ports.js";
import { dockerError } from "./docker-errors.js";
import type { HostCommands } from "./host-commands.js";

/** A model of 5 GB at 3 MB/s takes half an hour, and its graph is built after that. */
const deadline = ms(3_600_000);

/** The user of the services' image: it owns nothing on a host but the folder that it fetches into. */
const fetcher = "10001:10001";

/** The status of the script when what was fetched is another model. */
const otherModel = 66;

/** Nodes that download models from the hub themselves. */
export interface NodeFetching {
  /** The services' image of the release, which holds the fetcher. */
  image: string;
  /** What the fetcher reads as `--spec`; null for a model that only the machine which deploys can give. */
  sourceOf(ref: ModelRef): ModelSource | null;
  /** `HF_ENDPOINT`, `HF_TOKEN` and proxies, as the fetcher reads them from stdin. */
  settings(): Promise<Readonly<Record<string, string>>>;
}

export interface FetchPlace {
  commands: HostCommands;
  progress: Progress;
  fetching: NodeFetching;
  /** Of the volume, on the host. */
  directory: string;
}

/**
 * Arguments: VOLUME'S DIRECTORY, IMAGE, CONTAINER, USER, FOLDER in the fetcher's store, SPEC, MANIFEST, then HASH FILE again and again.
 * Fetches into `.fetch` of the volume, where an earlier attempt left what it had, and moves each file to its place when all are right.
 * Another one at work in the volume is waited for. A container that outlived its script is the only one that can have the name.
 */
const fetching = `cd "$1" || exit 1
image=$2 name=$3 user=$4 from=.fetch/$5 spec=$6 manifest=$7; shift 7
exec 9<.
if command -v flock >/dev/null 2>&1 && ! flock -n 9; then
  echo '{"event":"progress","label":"wait for another fetch of the same","done":0,"total":null,"unit":"models"}'
  flock 9 || exit 1
  if [ "$(head -n 1 .gpuctl-complete 2>/dev/null)" = "$manifest" ]; then exit 0; fi
fi
docker rm --force "$name" >/dev/null 2>&1
mkdir -p .fetch && chown "$user" .fetch && chmod 700 .fetch || exit 1
docker run --rm --interactive --name "$name" --label dev.gpuctl.fetch="$name" --pull never --user "$user" --read-only --tmpfs /tmp \
  --cap-drop ALL --security-opt no-new-privileges --log-driver none --oom-score-adj 1000 --cpu-shares 256 \
  --mount "type=bind,src=$PWD/.fetch,dst=/store" "$image" \
  python -m gpuctl_serving.models fetch --store /store --hub-from-stdin --spec "$spec" 9<&- || exit
right() { [ -f "$from/$2" ] && [ ! -L "$from/$2" ] && [ "$(sha256sum <"$from/$2" | cut -c1-64)" = "$1" ]; }
put() { chown 0:0 "$from/$1" && chmod 444 "$from/$1" && mv -f "$from/$1" "$1"; }
( while [ $# -gt 0 ]; do right "$1" "$2" || { echo "$2 is not the file that the release names" >&2; exit ${otherModel}; }; shift 2; done )
found=$?
if [ "$found" = 0 ]; then
  while [ $# -gt 0 ]; do put "$2" || exit 1; shift 2; done
  if right "$manifest" manifest.json; then put manifest.json || exit 1; fi
fi
rm -rf .fetch
exit "$found"`;

/**
 * Has a node fetch a model into its volume, in a container that is thrown away, as a user without rights. Nothing of it has a file's
 * name before its hash is that of the release. Throws PreflightRefused with the fetcher's own words.
 */
export async function fetchOnNode(place: FetchPlace, ref: ModelRef, source: ModelSource, signal: AbortSignal): Promise<void> {
  const { commands, progress, fetching: given, directory } = place;
  const volume = modelVolume(ref);
  const folder = `${ref.id.replaceAll("/", "--")}/${ref.revision}`;
  const files = Object.entries(ref.files).flatMap(([name, hash]) => [hash, name]);
  const args = [directory, given.image, `${volume}-fetch`, fetcher, folder, JSON.stringify(source), ref.manifest, ...files];
  const said: Event[] = [];
  const onLine = (line: string): void => {
    const event = parse(line);
    if (event["event"] === "error") said.push(event);
    const { label, done, total, unit } = event;
    if (event["event"] !== "progress" || typeof label !== "string" || typeof done !== "number" || typeof unit !== "string")
      return;
    const amount = { done, total: typeof total === "number" ? total : null, unit };
    progress.emit({ kind: "amount", label: `${commands.node} fetches ${ref.name}: ${label}`, ...amount });
  };
  const input = JSON.stringify(await given.settings());
  const result = await commands.attempt({ argv: ["sh", "-c", fetching, "gpuctl", ...args], input }, { deadline, signal, onLine });
  if (result.code !== 0) throw failureOf(place, ref, result, said.at(-1));
}

type Event = Readonly<Record<string, unknown>>;

function failureOf(
  { commands, fetching: { image } }: FetchPlace,
  ref: ModelRef,
  result: CommandResult,
  told?: Event,
): GpuctlError {
  const { node, root } = commands;
  const failure = `the model ${ref.name} could not be fetched by ${node}`;
  const copied = "or models: { delivery: copy } of the environment in gpuctl.yaml: then it is sent from here";
  const data = { model: ref.id, revision: ref.revision, node };
  const words = (value: unknown): string[] => (typeof value === "string" && value !== "" ? [value] : []);
  if (told !== undefined)
    return new PreflightRefused(failure, {
      because: [...words(told["message"]), ...words(told["because"])].join(": "),
      nextSteps: [...words(told["next"]), copied],
      data,
    });
  if (result.code === otherModel)
    return new PreflightRefused(failure, {
      because: `what the hub's files became there is another model: ${result.stderr.trim()}`,
      nextSteps: ["gpuctl models fetch", copied],
      data,
    });
  if (/unrecognized arguments|No module named/.test(result.stderr))
    return new PreflightRefused(failure, {
      because: `${image} holds no fetcher for that: it is of an older gpuctl`,
      nextSteps: ["gpuctl images push", copied],
      data,
    });
  return dockerError({ node, root, failure: `the model ${ref.name} could not be fetched` }, result);
}

function parse(line: string): Event {
  try {
    const value = JSON.parse(line) as unknown;
    return typeof value === "object" && value !== null ? (value as Event) : {};
  } catch {
    return {};
  }
}
