import { containerName } from "../../../domain/compose/names.js";
import { createCommand } from "../../../domain/compose/host-files.js";
import type { ComposeNode, HostInstance } from "../../../domain/compose/node.js";
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

/** Starts an instance's container with its gate closed. One that exits while it loads stays exited. */
export async function startContainer(
  commands: HostCommands,
  node: ComposeNode,
  instance: HostInstance,
  filters: readonly string[],
  lease: Lease,
): Promise<void> {
  const name = containerName({ ...node, service: instance.service, slot: instance.slot });
  await commands.change(lease, {
    text: startScript,
    args: [...orderArguments(commands.root, filters, instance.id), name, ...createCommand(node, instance)],
    failure: `the container of ${instance.id} could not be started`,
    deadline: startDeadline,
  });
}
