import type { InstanceId, ServiceName } from "../../../domain/names.js";
import { ms, type Milliseconds } from "../../../domain/units.js";
import type { Lease } from "../../../ports.js";
import type { HostCommands } from "./host-commands.js";
import {
  forgetOrderScript,
  makeRoomScript,
  orderArguments,
  settleScript,
  stopLaterScript,
  stopScript,
  suspendScript,
} from "./orders.js";

/** The longest grace period of a container, and Docker's own time on a busy host. */
const stopDeadline = ms(150_000);

/** What is ordered for an instance on its host, now or for later. */
export interface InstanceOrders {
  stop(id: InstanceId, lease: Lease): Promise<void>;
  stopLater(id: InstanceId, after: Milliseconds, lease: Lease): Promise<void>;
  /** Takes it out of traffic; from here on it comes back by itself. */
  suspend(id: InstanceId, service: ServiceName, restoreAfter: Milliseconds, lease: Lease): Promise<void>;
  /** Ends what is suspended, unless it has come back in the meantime. */
  makeRoom(id: InstanceId, lease: Lease): Promise<void>;
  /** A successor serves: what was suspended stays ended. */
  settle(id: InstanceId, lease: Lease): Promise<void>;
  forget(id: InstanceId, lease: Lease): Promise<void>;
}

export function instanceOrders(commands: HostCommands, filters: readonly string[]): InstanceOrders {
  const { root } = commands;
  const give = async (text: string, id: InstanceId, more: readonly string[], failure: string, lease: Lease): Promise<void> => {
    const args = [...orderArguments(root, filters, id), ...more];
    await commands.change(lease, { text, args, failure, deadline: stopDeadline });
  };
  return {
    stop: (id, lease) => give(stopScript, id, [], `${id} could not be stopped`, lease),
    stopLater: (id, after, lease) =>
      give(stopLaterScript, id, [wholeSeconds(after)], `${id} could not be told when to stop`, lease),
    suspend: (id, service, restoreAfter, lease) =>
      give(suspendScript, id, [wholeSeconds(restoreAfter), service], `${id} could not be suspended`, lease),
    makeRoom: (id, lease) => give(makeRoomScript, id, [], `${id} could not make room`, lease),
    settle: (id, lease) => give(settleScript, id, [], `${id} could not be left stopped`, lease),
    forget: (id, lease) => give(forgetOrderScript, id, [], `what was ordered for ${id} could not be taken back`, lease),
  };
}

const wholeSeconds = (duration: Milliseconds): string => Math.max(1, Math.ceil(duration / 1000)).toString();
