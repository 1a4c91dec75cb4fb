/** Looking up what a stack registered under mocks. */
import { expect } from "vitest";
import type { Registered } from "./stack-under-mocks.js";

export const remote = (resources: Registered[]) => resources.filter(({ type }) => type === "command:remote:Command");
export const keyOf = ({ inputs }: Registered) => (inputs["connection"] as { hostKey: string }).hostKey;

export function one(resources: Registered[], name: string, type: string): Registered {
  const found = resources.filter((resource) => resource.name === name && resource.type.split(":").at(-1) === type);
  expect(found, `${type} ${name}`).toHaveLength(1);
  return found[0]!;
}
