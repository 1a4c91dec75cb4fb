/** Hosts where a release had to stop the old instance first: there is no room for two there when something is put right either. */
import { instanceOf } from "../../domain/drift.js";
import type { ServiceName } from "../../domain/names.js";
import type { DriftOperation } from "../../domain/operations.js";
import type { ReleaseRecord } from "../../domain/release.js";
import type { Milliseconds } from "../../domain/units.js";
import type { Survey } from "./survey.js";

/** Where there was no room for two instances, the one that is to end does so before the other starts. Else whoever answers ends last. */
export function roomFirst(drift: readonly DriftOperation[], { stored, current }: Survey): readonly DriftOperation[] {
  const starting = new Set(drift.flatMap((operation) => (operation.kind === "restart" ? operation.service : [])));
  const inTheWay = (operation: DriftOperation): boolean => {
    if (operation.kind !== "discard" && operation.kind !== "retire") return false;
    const { service, id } = operation;
    const its = stored.records.find(({ services }) => services[service] !== undefined && instanceOf(services[service]) === id);
    return starting.has(service) && [its, current].some((record) => hadNoRoom(record, service));
  };
  return [...drift.filter(inTheWay), ...drift.filter((operation) => !inTheWay(operation))];
}

/** Whether a release could start a service only where the instance before it had ended. */
const hadNoRoom = (record: ReleaseRecord | null | undefined, service: ServiceName): boolean =>
  record?.stopFirst?.includes(service) === true;

/** How long a predecessor that is retired stays warm beside the current release; null when it ends at once. */
export const warmFor = (current: ReleaseRecord | null, service: ServiceName, keepWarm: Milliseconds): Milliseconds | null =>
  hadNoRoom(current, service) ? null : keepWarm;
