import { canonicalJson, sha256 } from "./canonical.js";
import { serviceNames, type ReleaseId, type ServiceName, type Sha256 } from "./names.js";
import type { ServiceSpec } from "./release.js";

/** Some value for some services, in no particular order; iterate with `inOrder`. */
export type PerService<T> = Readonly<Partial<Record<ServiceName, T>>>;

/** The services present in a map, in the order in which they start. */
export function inOrder<T>(services: PerService<T>): readonly (readonly [ServiceName, T])[] {
  return serviceNames.flatMap((service) => {
    const value = services[service];
    return value === undefined ? [] : [[service, value] as const];
  });
}

/** SHA-256 of the canonical JSON of a spec: two services with equal fingerprints behave alike. */
export function fingerprintOf(spec: ServiceSpec): Sha256 {
  return sha256(canonicalJson(spec));
}

/** `r<number>-<8 hex>`; the hash covers what the release runs and what it follows, so that planning twice names it twice alike. */
export function releaseIdOf(number: number, specs: PerService<ServiceSpec>, parent: ReleaseId | null): ReleaseId {
  const content = { number, parent, specs: inOrder(specs).map(([service, spec]) => [service, fingerprintOf(spec)]) };
  return `r${number}-${sha256(canonicalJson(content)).slice(0, 8)}`;
}
