import { stackSchema, type StackConfig } from "./stack-schema.js";

type Fields = Record<string, unknown>;
type Issues = NonNullable<ReturnType<typeof stackSchema.safeParse>["error"]>["issues"];

/** What stands for a field that has to be there. No check finds anything wrong with one of these. */
const standIns: Readonly<Fields> = {
  project: "x",
  kind: "adopted",
  host: "192.0.2.1",
  hostKey: "ssh-ed25519 AAAA",
  serverType: "cx33",
  location: "fsn1",
  context: "x",
  server: "https://192.0.2.1:6443",
  version: "v1.0.0+k3s1",
  sha256: "0".repeat(64),
  agents: ["x"],
};

/** The same for one element of a list: the others keep their places. */
const elements: Readonly<Fields> = {
  addresses: "192.0.2.1",
  anywhere: "192.0.2.1",
  app: "192.0.2.1",
  keys: "ssh-ed25519 AAAA",
  agents: "x",
  servicePorts: 1,
};

/** Rounds of looking and mending: taking one thing away can show the next. */
const rounds = 20;

/**
 * A configuration whose wrong fields are gone or have a stand-in, so that what is right in it can be checked as well.
 * @returns null when there is no such thing
 */
export function soundParts(raw: Readonly<Fields>): StackConfig | null {
  const config = structuredClone(raw) as Fields;
  for (let round = 0; round < rounds; round++) {
    const parsed = stackSchema.safeParse(config);
    if (parsed.success) return parsed.data;
    for (const issue of parsed.error.issues) mend(config, issue);
  }
  return null;
}

function mend(config: Fields, issue: Issues[number]): void {
  const path = issue.path.map(String);
  const [section = "", name = "", ...inner] = path;
  if (issue.code === "unrecognized_keys") {
    const owner = path.reduce<unknown>((value, key) => (isFields(value) ? value[key] : undefined), config);
    if (isFields(owner)) for (const key of issue.keys) Reflect.deleteProperty(owner, key);
    return;
  }
  const part = config[section];
  if (section === "network") config["network"] = { range: "10.0.0.0/16" };
  else if (section === "nodes" && isFields(part) && path.length > 1) mendNode(part, name, inner);
  else if ((section === "operators" || section === "cluster") && isFields(part) && path.length > 1) replace(part, name, inner[0]);
  else replace(config, section, path[1]);
}

function mendNode(nodes: Fields, name: string, [field, index]: string[]): void {
  const node = nodes[name];
  if (!/^[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?$/.test(name)) Reflect.deleteProperty(nodes, name);
  else if (field === undefined || !isFields(node)) nodes[name] = { kind: "adopted" };
  else replace(node, field, index);
}

function replace(owner: Fields, field: string, index: string | undefined): void {
  const list = owner[field];
  if (Array.isArray(list) && index !== undefined && field in elements) list[Number(index)] = elements[field];
  else if (field in standIns) owner[field] = structuredClone(standIns[field]);
  else Reflect.deleteProperty(owner, field);
}

const isFields = (value: unknown): value is Fields => typeof value === "object" && value !== null && !Array.isArray(value);
