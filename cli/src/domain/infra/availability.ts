import type { ServerType } from "../cost/cloud.js";
import type { Change } from "./preview.js";
import { called } from "./resource.js";

/** A server that a change would make, or give another type, and that cannot be had. */
export interface Unavailable {
  /** `server web`. */
  server: string;
  because: string;
  /** Types and locations that can be had in its place, the same type elsewhere first. */
  alternatives: readonly string[];
}

/** Alternatives named at most. */
const shownAlternatives = 5;

/** Whether a server gets another type in place: the provider powers it off for that, and leaves it off when there is no room. */
export const changesType = ({ type, op, because }: Change): boolean =>
  type === "hcloud:index/server:Server" && op === "update" && because.includes("serverType");

/** Whether a change needs room at the provider: for a server that it makes, or for another type of one that is there. */
export const needsPlace = (change: Change): boolean =>
  changesType(change) || (change.type === "hcloud:index/server:Server" && (change.op === "create" || change.op === "replace"));

/** Servers of a preview that the provider cannot place right now, by `GET /server_types`. */
export function unavailable(changes: readonly Change[], types: readonly ServerType[]): readonly Unavailable[] {
  return changes.filter(needsPlace).flatMap((change): Unavailable[] => {
    const { serverType, location } = change.inputs;
    if (typeof serverType !== "string") return [];
    const because = whyNot(serverType, typeof location === "string" ? location : null, types);
    if (because === null) return [];
    const found = instead(serverType, location, types);
    // A server that keeps its disk stays where it is.
    const alternatives = changesType(change) ? found.filter((one) => one.endsWith(` in ${String(location)}`)) : found;
    return [{ server: called(change), because, alternatives: alternatives.slice(0, shownAlternatives) }];
  });
}

function whyNot(name: string, location: string | null, types: readonly ServerType[]): string | null {
  const type = types.find((one) => one.name === name);
  if (type === undefined) return `there is no server type ${name}`;
  if (location === null)
    return type.locations.some(({ available }) => available) ? null : `${name} is not available in any location`;
  const there = type.locations.find((one) => one.name === location);
  if (there === undefined) return `${name} is not sold in ${location}`;
  return there.available ? null : `${name} is not available in ${location} at the moment`;
}

function instead(name: string, location: unknown, types: readonly ServerType[]): readonly string[] {
  const wanted = types.find((one) => one.name === name);
  const elsewhere = (wanted?.locations ?? []).filter(({ available }) => available).map((one) => `${name} in ${one.name}`);
  const similar = types
    .filter((one) => one.name !== name && (wanted === undefined || fitsIn(wanted, one)))
    .filter(({ locations }) => locations.some((one) => one.name === location && one.available && !one.deprecated))
    .sort((left, right) => left.cores - right.cores || left.memory - right.memory)
    .map((one) => `${one.name} in ${String(location)}`);
  return [...elsewhere, ...similar];
}

/** At least as large, and for the same programs. */
const fitsIn = (wanted: ServerType, other: ServerType): boolean =>
  other.architecture === wanted.architecture && other.cores >= wanted.cores && other.memory >= wanted.memory;
