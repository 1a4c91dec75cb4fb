import { called, resourceOf } from "./resource.js";
import { inFolder, type Doing } from "./trouble.js";

/** What Pulumi says before every change, until somebody has looked what became of the operations that were under way when it was killed. */
const doubt = /\d+ pending operations? from previous deployment/;
const operation = /^\s*\* (urn:\S+), interrupted while (\w+)/gm;

/** That doubt in words; null for any other text. */
export function cutOffText(message: string): string | null {
  if (!doubt.test(message)) return null;
  const which = [...message.matchAll(operation)].map(([, urn = "", what = ""]) => `${called(resourceOf(urn))} (${what})`);
  const named = which.length === 0 ? "some resources" : which.join(", ");
  return `Pulumi was killed in the middle of a change, and does not know what became of ${named}; what was made all the same is found by gpuctl infra gc`;
}

/** What ends the doubt. Without a terminal Pulumi does not ask about creations, and keeps them in doubt unless it is told so. */
export const cutOffSteps = (doing: Doing): readonly string[] => [
  "gpuctl infra gc   # lists what no stack knows, with what was being made; what is younger than 15 minutes can be deleted later",
  inFolder(
    doing,
    `pulumi refresh --yes --clear-pending-creates --stack ${doing.stack}   # asks the provider, and ends the doubt`,
  ),
];
