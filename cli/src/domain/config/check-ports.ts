import { serviceNames } from "../names.js";
import { defaultPorts } from "./defaults.js";
import { problem, valueAt } from "./issues.js";
import type { Path, Problem, SourceDocument } from "./source.js";

interface Clash {
  port: number;
  services: readonly [string, string];
  /** Where the second one is written; the service itself when it is a default. */
  path: Path;
  part: "key" | "value";
}

/** Two services cannot hold one port of a machine; defaults take part, as they will at deploy time. One problem a place, not one an environment. */
export function checkPorts(document: SourceDocument, environments: readonly string[]): Problem[] {
  const found = new Map<string, { clash: Clash; environments: string[] }>();
  for (const name of environments) {
    for (const clash of clashesIn(document, name)) {
      const key = JSON.stringify([clash.path, clash.port, clash.services]);
      const known = found.get(key) ?? { clash, environments: [] };
      known.environments.push(name);
      found.set(key, known);
    }
  }
  return [...found.values()].map(({ clash, environments: names }) => {
    const where =
      names.length === environments.length
        ? ""
        : ` in ${names.length === 1 ? "environment" : "environments"} ${names.join(" and ")}`;
    const message = `port ${clash.port} is used by ${clash.services.join(" and by ")}${where}`;
    return problem("port-twice", message, clash.path, document, clash.part, "give each service its own port");
  });
}

function clashesIn(document: SourceDocument, name: string): Clash[] {
  const taken = new Map<number, string>();
  const clashes: Clash[] = [];
  for (const service of serviceNames) {
    const own: Path = ["environments", name, "services", service];
    const shared: Path = ["services", service];
    const said = (key: string): unknown => valueAt(document.value, [...own, key]) ?? valueAt(document.value, [...shared, key]);
    const present = valueAt(document.value, own) ?? valueAt(document.value, shared);
    if (present === undefined || said("enabled") === false) continue;
    const path = [own, shared].map((at) => [...at, "port"]).find((at) => valueAt(document.value, at) !== undefined);
    const port = said("port") ?? defaultPorts[service];
    if (typeof port !== "number") continue;
    const first = taken.get(port);
    if (first === undefined) taken.set(port, service);
    else clashes.push({ port, services: [first, service], path: path ?? shared, part: path ? "value" : "key" });
  }
  return clashes;
}
