import type { ServiceName } from "../names.js";
import { isMap, keysOf, unknownName } from "./check-names.js";
import { problem, valueAt } from "./issues.js";
import { controlledVariable } from "./service-env.js";
import type { Path, Problem, SourceDocument } from "./source.js";
import { nearest } from "./suggest.js";

/** Models, contradictions and names inside one service's settings, at the top or inside an environment. */
export function checkService(document: SourceDocument, at: Path, service: ServiceName): Problem[] {
  const settings = valueAt(document.value, at);
  if (!isMap(settings)) return [];
  return [
    ...unknownModels(document, at),
    ...missingModel(document, at, service, settings),
    ...deviceContradiction(document, at),
    ...(service === "index" ? indexOnGpuOnly(document, at) : []),
    ...variables(document, at),
  ];
}

function unknownModels(document: SourceDocument, at: Path): Problem[] {
  const models = keysOf(document.value, ["models"]);
  const paths: Path[] = [
    [...at, "model"],
    [...at, "fallback", "model"],
  ];
  return paths.flatMap((path) => {
    const model = valueAt(document.value, path);
    if (typeof model !== "string" || models.includes(model)) return [];
    return [unknownName("unknown-model", "model", model, models, path, document)];
  });
}

function missingModel(
  document: SourceDocument,
  at: Path,
  service: ServiceName,
  settings: Readonly<Record<string, unknown>>,
): Problem[] {
  if (service === "index" || settings["model"] !== undefined || settings["enabled"] === false) return [];
  // A mistyped key is reported as such, and an environment inherits the model.
  if (Object.keys(settings).some((key) => nearest(key, ["model"]) !== null)) return [];
  if (at[0] === "environments" && valueAt(document.value, ["services", service]) !== undefined) return [];
  const models = keysOf(document.value, ["models"]);
  const hint = models.length > 0 ? `declared: ${models.join(", ")}` : "declare one under models first";
  return [problem("missing-model", `${service} has no model`, at, document, "key", hint)];
}

function deviceContradiction(document: SourceDocument, at: Path): Problem[] {
  const require = valueAt(document.value, [...at, "device", "require"]);
  const prefer = valueAt(document.value, [...at, "device", "prefer"]);
  if (typeof require !== "string") return [];
  const problems: Problem[] = [];
  if (typeof prefer === "string" && prefer !== "auto" && prefer !== require) {
    const message = `requires ${require} but prefers ${prefer}: it could never serve`;
    const hint = `drop prefer, or make both ${require}`;
    problems.push(problem("contradiction", message, [...at, "device", "require"], document, "value", hint));
  }
  if (require !== "cpu" && valueAt(document.value, [...at, "fallback"]) !== undefined) {
    const message = `has a fallback, but require: ${require} forbids answering without it`;
    const hint = "drop fallback, or use device.prefer instead of device.require";
    problems.push(problem("contradiction", message, [...at, "fallback"], document, "key", hint));
  }
  return problems;
}

/** An index is empty at first, and a small one is always searched on the CPU: it could not become ready to be filled. */
function indexOnGpuOnly(document: SourceDocument, at: Path): Problem[] {
  const path: Path = [...at, "device", "require"];
  const require = valueAt(document.value, path);
  if (typeof require !== "string" || require === "cpu") return [];
  const message = `the index cannot require ${require}: its CPU copy always answers, a GPU only takes searches of large namespaces from it`;
  const hint = require === "cuda" ? "use device: cuda, and see `gpu` in its stats" : "drop require";
  return [problem("contradiction", message, path, document, "value", hint)];
}

function variables(document: SourceDocument, at: Path): Problem[] {
  return keysOf(document.value, [...at, "env"]).flatMap((name) => {
    const path: Path = [...at, "env", name];
    const instead = controlledVariable(name);
    if (instead !== null)
      return [problem("controlled-variable", `${name} is controlled by gpuctl`, path, document, "key", instead)];
    if (valueAt(document.value, [...at, "secrets", name]) === undefined) return [];
    return [problem("name-twice", `${name} is both under env and under secrets`, path, document, "key", "keep it under secrets")];
  });
}
