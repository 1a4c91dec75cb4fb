import { serviceNames } from "../names.js";
import { isMap, keysOf, unknownName } from "./check-names.js";
import { checkNodes } from "./check-nodes.js";
import { checkPorts } from "./check-ports.js";
import { checkService } from "./check-service.js";
import { problem, valueAt } from "./issues.js";
import type { Path, Problem, SourceDocument } from "./source.js";

/** What one part of the file says about another. Works on the raw value, so that it also speaks when the schema has complained. */
export function crossChecks(document: SourceDocument): Problem[] {
  const environments = keysOf(document.value, ["environments"]);
  return [
    ...defaultEnvironment(document, environments),
    ...somethingToRun(document, environments),
    ...serviceNames.flatMap((service) => checkService(document, ["services", service], service)),
    ...environments.flatMap((name) => checkEnvironment(document, name)),
    ...checkPorts(document, environments),
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
    const hint = "add one, such as local: { target: process }";
    problems.push(problem("empty", "no environment is declared", ["environments"], document, "key", hint));
  }
  const services = valueAt(document.value, ["services"]);
  const perEnvironment = environments.some((name) => keysOf(document.value, ["environments", name, "services"]).length > 0);
  if (isMap(services) && Object.keys(services).length === 0 && !perEnvironment) {
    problems.push(problem("empty", "no service is declared", ["services"], document, "key", `known: ${serviceNames.join(", ")}`));
  }
  return problems;
}

function checkEnvironment(document: SourceDocument, name: string): Problem[] {
  const at: Path = ["environments", name];
  return [
    ...serviceNames.flatMap((service) => checkService(document, [...at, "services", service], service)),
    ...checkNodes(document, name),
    ...publicWithoutTls(document, at),
  ];
}

/** Only a warning here: whether it is allowed is decided before a deploy, when keys and TLS are known. */
function publicWithoutTls(document: SourceDocument, at: Path): Problem[] {
  const path: Path = [...at, "bind"];
  const bind = valueAt(document.value, path);
  if (typeof bind !== "string" || /^127\.|^::1$/.test(bind)) return [];
  const mode = valueAt(document.value, [...at, "tls", "mode"]);
  if (mode === "acme" || mode === "files") return [];
  const message = `${bind} can be reached from other machines and the traffic is not encrypted`;
  return [
    problem("public-bind", message, path, document, "value", "bind to 127.0.0.1, or set tls and an API_KEYS secret", "warning"),
  ];
}
