/** Resources as Pulumi names them. */

/** The parts of a URN that people know. Components between a resource and the stack are left out. */
export interface ResourceName {
  /** For example `hcloud:index/server:Server`. */
  type: string;
  name: string;
}

/** `urn:pulumi:prod::shop::a$hcloud:index/server:Server::web` -> its type and name; a text that is no URN names itself. */
export function resourceOf(urn: string): ResourceName {
  const [, , types = "", ...name] = urn.split("::");
  return name.length === 0 ? { type: "", name: urn } : { type: types.split("$").at(-1) ?? types, name: name.join("::") };
}

/** The stack that a URN belongs to is no resource of its own to people, and neither are providers. */
export const isPlumbing = (type: string): boolean => type === "pulumi:pulumi:Stack" || type.startsWith("pulumi:providers:");

/** `hcloud:index/primaryIp:PrimaryIp` -> `primary IP`. */
export function kindOf(type: string): string {
  const last = type.split(":").at(-1) ?? type;
  const words = last.replaceAll(/(?<=[a-z0-9])(?=[A-Z])/g, " ").toLowerCase();
  return words.replaceAll(/\b(ip|ssh|dns)\b/g, (word) => word.toUpperCase());
}

/** `server web`: how a resource is called in lists and progress. */
export const called = ({ type, name }: ResourceName): string => `${kindOf(type)} ${name}`.trim();
