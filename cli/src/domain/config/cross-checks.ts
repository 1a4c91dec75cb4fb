import { serviceNames, type ServiceName } from "../names.js";
import { defaultPorts } from "./defaults.js";
import { problem, valueAt } from "./issues.js";
import { controlledVariable } from "./service-env.js";
import type { Path, Problem, SourceDocument } from "./source.js";
import { nearest } from "./suggest.js";

/** What one part of the file says about another. Works on the raw value, so that it also speaks when the schema has complained. */
export function crossChecks(document: SourceDocument): Problem[] {
  const environments = keysOf(document.value, ["environments"]);
  return [
    ...defaultEnvironment(document, environments),
    ...somethingToRun(document, environments),
    ...serviceNames.flatMap((service) => checkService(document, ["services", service], service, null)),
    ...environments.flatMap((name) => checkEnvironment(document, name)),
  ];
}

function defaultEnvironment(document: SourceDocument, environments: readonly string[]): Problem[] {
  const name = valueAt(document.value, ["defaultEnvironment"]);
  if (typeof name !== "string" || environments.includes(name)) return [];
  return [unknownName("unknown-environment", "environment", name, environments, ["defaultEnvironment"], document)];
}

function somethingToRun(document: SourceDocument, environments: readonly string[]): Problem[] {
  const problems: Problem[] = [];
  if (isMap(valueAt(document.value, ["environments"])) && environments.length === 0) {
    problems.push(
      problem(
        "empty",
        "no environment is declared",
        ["environments"],
        document,
        "key",
        "add one, such as local: { target: process }",
      ),
    );
  }
  const services = valueAt(document.value, ["services"]);
  if (isMap(services) && keysOf(document.value, ["services"]).length === 0) {
    problems.push(problem("empty", "no service is declared", ["services"], document, "key", `known: ${serviceNames.join(", ")}`));
  }
  return problems;
}

function checkEnvironment(document: SourceDocument, name: string): Problem[] {
  const at: Path = ["environments", name];
  const nodes = isMap(valueAt(document.value, [...at, "nodes"])) ? keysOf(document.value, [...at, "nodes"]) : null;
  const ingress = valueAt(document.value, [...at, "ingress", "node"]);
  const problems = serviceNames.flatMap((service) =>
    checkService(document, [...at, "services", service], service, { name, nodes }),
  );
  if (nodes !== null && typeof ingress === "string" && !nodes.includes(ingress)) {
    problems.push(unknownName("unknown-node", "node", ingress, nodes, [...at, "ingress", "node"], document));
  }
  if (nodes?.length === 0) {
    problems.push(
      problem(
        "empty",
        `environment ${name} has no node`,
        [...at, "nodes"],
        document,
        "key",
        "add one, such as gpu-1: { host: gpu-1.example.net }",
      ),
    );
  }
  return [
    ...problems,
    ...nodesOfServices(document, name, nodes),
    ...swarmManager(document, name),
    ...portsTwice(document, name),
    ...publicWithoutTls(document, name),
  ];
}

/** Models, contradictions and names inside one service's settings. `place` is null for settings of every environment. */
function checkService(
  document: SourceDocument,
  at: Path,
  service: ServiceName,
  place: { name: string; nodes: readonly string[] | null } | null,
): Problem[] {
  const settings = valueAt(document.value, at);
  if (!isMap(settings)) return [];
  const models = keysOf(document.value, ["models"]);
  const problems: Problem[] = [];
  for (const path of [
    [...at, "model"],
    [...at, "fallback", "model"],
  ]) {
    const model = valueAt(document.value, path);
    if (typeof model === "string" && !models.includes(model))
      problems.push(unknownName("unknown-model", "model", model, models, path, document));
  }
  const inherited = place !== null && valueAt(document.value, ["services", service, "model"]) !== undefined;
  if (
    service !== "index" &&
    valueAt(settings, ["model"]) === undefined &&
    !inherited &&
    valueAt(settings, ["enabled"]) !== false
  ) {
    const known = models.length > 0 ? `declared: ${models.join(", ")}` : "declare one under models first";
    problems.push(problem("missing-model", `${service} has no model`, at, document, "key", known));
  }
  return [...problems, ...deviceContradiction(document, at), ...variables(document, at)];
}

function deviceContradiction(document: SourceDocument, at: Path): Problem[] {
  const require = valueAt(document.value, [...at, "device", "require"]);
  const prefer = valueAt(document.value, [...at, "device", "prefer"]);
  const problems: Problem[] = [];
  if (typeof require === "string" && typeof prefer === "string" && prefer !== "auto" && prefer !== require) {
    problems.push(
      problem(
        "contradiction",
        `requires ${require} but prefers ${prefer}: it could never serve`,
        [...at, "device", "require"],
        document,
        "value",
        `drop prefer, or make both ${require}`,
      ),
    );
  }
  if (typeof require === "string" && require !== "cpu" && valueAt(document.value, [...at, "fallback"]) !== undefined) {
    problems.push(
      problem(
        "contradiction",
        `has a fallback, but require: ${require} forbids answering without it`,
        [...at, "fallback"],
        document,
        "key",
        "drop fallback, or use device.prefer instead of device.require",
      ),
    );
  }
  return problems;
}

function variables(document: SourceDocument, at: Path): Problem[] {
  return keysOf(document.value, [...at, "env"]).flatMap((name) => {
    const instead = controlledVariable(name);
    if (instead !== null)
      return [problem("controlled-variable", `${name} is controlled by gpuctl`, [...at, "env", name], document, "key", instead)];
    if (valueAt(document.value, [...at, "secrets", name]) === undefined) return [];
    return [
      problem(
        "name-twice",
        `${name} is both under env and under secrets`,
        [...at, "env", name],
        document,
        "key",
        "keep it under secrets",
      ),
    ];
  });
}

function nodesOfServices(document: SourceDocument, name: string, nodes: readonly string[] | null): Problem[] {
  return serviceNames.flatMap((service) => {
    const own: Path = ["environments", name, "services", service, "nodes"];
    const path: Path = valueAt(document.value, own) === undefined ? ["services", service, "nodes"] : own;
    const wanted = valueAt(document.value, path);
    if (!Array.isArray(wanted)) return [];
    if (nodes === null) {
      const target = valueAt(document.value, ["environments", name, "target"]);
      if (target !== "process" && target !== "kubernetes") return [];
      return [
        problem(
          "unknown-node",
          `environment ${name} has no nodes, but ${service} names some`,
          path,
          document,
          "key",
          "nodes belong to the targets compose and swarm",
        ),
      ];
    }
    return wanted.flatMap((node, position) =>
      typeof node === "string" && !nodes.includes(node)
        ? [unknownName("unknown-node", `node of environment ${name}`, node, nodes, [...path, position], document)]
        : [],
    );
  });
}

function swarmManager(document: SourceDocument, name: string): Problem[] {
  const at: Path = ["environments", name, "nodes"];
  const nodes = keysOf(document.value, at);
  if (valueAt(document.value, ["environments", name, "target"]) !== "swarm" || nodes.length === 0) return [];
  if (nodes.some((node) => valueAt(document.value, [...at, node, "role"]) === "manager")) return [];
  return [
    problem(
      "no-manager",
      `swarm environment ${name} has no manager`,
      at,
      document,
      "key",
      "give at least one node role: manager",
    ),
  ];
}

/** Two services cannot hold one port of a machine; defaults take part, as they will at deploy time. */
function portsTwice(document: SourceDocument, name: string): Problem[] {
  const taken = new Map<number, string>();
  const problems: Problem[] = [];
  for (const service of serviceNames) {
    const own: Path = ["environments", name, "services", service];
    const shared: Path = ["services", service];
    if (valueAt(document.value, own) === undefined && valueAt(document.value, shared) === undefined) continue;
    if ((valueAt(document.value, [...own, "enabled"]) ?? valueAt(document.value, [...shared, "enabled"])) === false) continue;
    const path = [
      [...own, "port"],
      [...shared, "port"],
    ].find((candidate) => valueAt(document.value, candidate) !== undefined);
    const port = path ? valueAt(document.value, path) : defaultPorts[service];
    if (typeof port !== "number") continue;
    const first = taken.get(port);
    if (first === undefined) taken.set(port, service);
    else {
      const message = `port ${port} is used by ${first} and by ${service} in environment ${name}`;
      problems.push(
        problem("port-twice", message, path ?? shared, document, path ? "value" : "key", "give each service its own port"),
      );
    }
  }
  return problems;
}

/** Only a warning here: whether it is allowed is decided before a deploy, when keys and TLS are known. */
function publicWithoutTls(document: SourceDocument, name: string): Problem[] {
  const path: Path = ["environments", name, "bind"];
  const bind = valueAt(document.value, path);
  if (typeof bind !== "string" || /^127\.|^::1$/.test(bind)) return [];
  const mode = valueAt(document.value, ["environments", name, "tls", "mode"]);
  if (mode === "acme" || mode === "files") return [];
  const message = `${bind} can be reached from other machines and the traffic is not encrypted`;
  return [
    problem("public-bind", message, path, document, "value", "bind to 127.0.0.1, or set tls and an API_KEYS secret", "warning"),
  ];
}

function unknownName(
  code: string,
  kind: string,
  name: string,
  known: readonly string[],
  path: Path,
  document: SourceDocument,
): Problem {
  const guess = nearest(name, known);
  const hint = guess ? `did you mean "${guess}"?` : known.length > 0 ? `declared: ${known.join(", ")}` : `none is declared`;
  return problem(code, `there is no ${kind} ${JSON.stringify(name)}`, path, document, "value", hint);
}

const isMap = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function keysOf(root: unknown, path: Path): readonly string[] {
  const value = valueAt(root, path);
  return isMap(value) ? Object.keys(value) : [];
}
