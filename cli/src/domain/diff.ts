import { specChanges } from "./changes.js";
import { serviceNames, type ReleaseId, type ServiceName } from "./names.js";
import type { ReleaseRecord } from "./release.js";

/** What differs between two releases, service by service. */
export interface ReleaseDiff {
  from: ReleaseId;
  to: ReleaseId;
  services: readonly { service: ServiceName; kind: "same" | "added" | "removed" | "changed"; changes: readonly string[] }[];
}

/** Compares what two releases run; neither time nor author counts. */
export function diffReleases(from: ReleaseRecord, to: ReleaseRecord): ReleaseDiff {
  const services = serviceNames.flatMap((service): ReleaseDiff["services"] => {
    const a = from.services[service];
    const b = to.services[service];
    if (a === undefined && b === undefined) return [];
    if (a === undefined) return [{ service, kind: "added", changes: [] }];
    if (b === undefined) return [{ service, kind: "removed", changes: [] }];
    if (a.fingerprint === b.fingerprint) return [{ service, kind: "same", changes: [] }];
    return [{ service, kind: "changed", changes: specChanges(a.spec, b.spec) }];
  });
  return { from: from.id, to: to.id, services };
}
