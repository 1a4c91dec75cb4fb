import { containerName } from "../../../domain/compose/names.js";
import { createCommand } from "../../../domain/compose/host-files.js";
import type { ComposeNode, HostInstance } from "../../../domain/compose/node.js";
import { Failed } from "../../../domain/errors.js";
import { ms } from "../../../domain/units.js";
import type { Lease } from "../../../ports.js";
import type { HostCommands } from "./host-commands.js";
import { orderArguments, orderParts } from "./orders.js";

/** Docker needs seconds for a container, and more for the first one with a GPU whose driver must wake up. */
const startDeadline = ms(120_000);

/**
 * Arguments: NAME, then the words of `docker compose create`. What runs already is left alone, also its gate. A place that another
 * instance has left is emptied first; its own container is started again as it was.
 */
const startScript = `${orderParts}
name=$1; shift
running=$(docker inspect --format '{{.State.Running}} {{index .Config.Labels "dev.gpuctl.instance"}}' "$name" 2>/dev/null)
case $running in
  "true $id") rm -f "$order"; exit 0 ;;
  true*) echo "$name still runs \${running#true }" >&2; exit 1 ;;
  "false $id"|'') ;;
  *) docker rm "$name" >/dev/null || exit ;;
esac
rm -f "$order"; gate "$id" closed || exit 1
"$@" >&2 || exit
docker update --restart no "$name" >/dev/null && docker start "$name" >/dev/null`;

/**
 * Arguments: NAME. Removes the container of a start that nobody waits for any more, so that it cannot go on. What has served has another
 * gate than `closed`, which only a start sets, and is left alone.
 */
const abandonScript = `${orderParts}
name=$1
if [ "$(cat "$root/gates/$id" 2>/dev/null)" != closed ]; then exit 0; fi
owner=$(docker inspect --format '{{index .Config.Labels "dev.gpuctl.instance"}}' "$name" 2>/dev/null)
if [ "$owner" = "$id" ]; then docker rm --force "$name" >/dev/null; fi`;

/** Where a container is started. */
export interface StartingPlace {
  commands: HostCommands;
  node: ComposeNode;
  filters: readonly string[];
}

/**
 * Starts an instance's container with its gate closed. One that exits while it loads stays exited. Docker goes on with what it was told
 * when whoever told it is gone: a start that takes too long, or that is not wanted any more, is ended and its container removed before
 * this throws.
 */
export async function startContainer(
  { commands, node, filters }: StartingPlace,
  instance: HostInstance,
  lease: Lease,
  signal?: AbortSignal,
): Promise<void> {
  signal?.throwIfAborted();
  const name = containerName({ ...node, service: instance.service, slot: instance.slot });
  const about = orderArguments(commands.root, filters, instance.id);
  const limit = AbortSignal.any([AbortSignal.timeout(startDeadline), ...(signal === undefined ? [] : [signal])]);
  try {
    await commands.change(lease, {
      text: startScript,
      args: [...about, name, ...createCommand(node, instance)],
      failure: `the container of ${instance.id} could not be started`,
      deadline: ms(2 * startDeadline),
      signal: limit,
    });
  } catch (thrown) {
    if (!limit.aborted) throw thrown;
    const failure = `what was started of ${instance.id} could not be removed`;
    await commands.change(lease, { text: abandonScript, args: [...about, name], failure });
    throw signal?.aborted === true ? thrown : tooSlow(instance, node, thrown);
  }
}

function tooSlow({ id }: HostInstance, { node }: ComposeNode, cause: unknown): Failed {
  return new Failed(`the container of ${id} could not be started`, {
    because: `Docker on ${node} had not started it after ${startDeadline / 1000} s, and it was removed`,
    nextSteps: ["gpuctl doctor"],
    data: { node },
    cause,
  });
}
