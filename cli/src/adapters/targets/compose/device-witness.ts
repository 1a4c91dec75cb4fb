import { readDeviceLook, sightOf, type DeviceLook, type DeviceSight } from "../../../domain/compose/device-evidence.js";
import type { InstanceId } from "../../../domain/names.js";
import { ms } from "../../../domain/units.js";
import type { HostCommands } from "./host-commands.js";

/** A driver that must wake up without persistence mode takes seconds; one that hangs is not waited for. */
const lookDeadline = ms(30_000);

/**
 * Arguments: CONTAINER, or nothing before there is one. Each answer follows its name and its exit status; `docker top` reads the
 * container's cgroup. It ends with 0 also when none of them answers: then that is what was seen.
 */
const looking = `ask() { name=$1; shift; said=$("$@" 2>/dev/null); printf '%s %s\\n%s\\n' "$name" "$?" "$said"; }
ask used nvidia-smi --query-gpu=uuid,memory.used --format=csv,noheader,nounits
ask apps nvidia-smi --query-compute-apps=gpu_uuid,pid,used_memory --format=csv,noheader,nounits
if [ -n "$1" ]; then ask pids docker top "$1" -eo pid; fi`;

/** UUID of a GPU that an instance is given; behind that of a MIG instance the card's. */
export type ReservedGpu = DeviceSight["reserved"];

/** Looks at a node's GPUs before an instance is started and while it proves itself, and remembers the former as long as this process lives. */
export class DeviceWitness {
  readonly #commands: HostCommands;
  readonly #before = new Map<InstanceId, { reserved: ReservedGpu; look: DeviceLook }>();

  constructor(commands: HostCommands) {
    this.#commands = commands;
  }

  /** To be called right before an instance is started on a GPU. */
  async before(id: InstanceId, reserved: ReservedGpu): Promise<void> {
    this.#before.set(id, { reserved, look: await this.#look() });
  }

  /**
   * What is seen now of an instance that runs in a container. Who was started just before it may have had some of its memory by then, so
   * all of them are compared with what was before any.
   */
  async now(id: InstanceId, reserved: ReservedGpu, container: string): Promise<DeviceSight> {
    const during = await this.#look(container);
    const started = [...this.#before].filter(([, before]) => before.reserved[0] === reserved[0]);
    const neighbours = started.map(([other]) => other).filter((other) => other !== id);
    const first = this.#before.has(id) ? (started[0]?.[1].look ?? null) : null;
    return sightOf(reserved, first, during, neighbours);
  }

  async #look(...args: readonly string[]): Promise<DeviceLook> {
    const failure = `the GPUs of ${this.#commands.node} could not be looked at`;
    return readDeviceLook(await this.#commands.look({ text: looking, args, failure, deadline: lookDeadline }));
  }
}
