import { Failed } from "../../../domain/errors.js";
import type { HostSlot } from "../../../domain/compose/names.js";
import { serviceNames, type InstanceId, type ServiceName } from "../../../domain/names.js";

/** The service and the slot that an instance's id names. Throws Failed for one that is none. */
export function placeOf(id: InstanceId): { service: ServiceName; slot: HostSlot } {
  const [, name, slot] = /^([a-z]+)-r\d+-[0-9a-f]+-(a|b|cpu)$/.exec(id) ?? [];
  const service = serviceNames.find((each) => each === name);
  if (service === undefined) throw new Failed(`${id} is no instance of this environment`, { nextSteps: ["gpuctl status"] });
  return { service, slot: slot as HostSlot };
}
