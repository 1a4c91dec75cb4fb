import type { ModelRef, ServiceSpec } from "./release.js";

const short = (hash: string): string => hash.slice(0, 8);
const shown = (value: string | undefined): string => (value === undefined ? "unset" : value === "" ? '""' : value);

/** What differs between two specs of one service, a line each, in words a person recognises from gpuctl.yaml. Empty when nothing does. */
export function specChanges(from: ServiceSpec, to: ServiceSpec): readonly string[] {
  return [
    ...codeChanges(from, to),
    ...modelChanges(from.model, to.model),
    ...modelChanges(from.fallback?.model ?? null, to.fallback?.model ?? null).map((line) => `fallback ${line}`),
    ...deviceChanges(from, to),
    ...envChanges(from.env, to.env),
    ...secretChanges(from.secrets, to.secrets),
    ...listenChanges(from, to),
  ];
}

function codeChanges(from: ServiceSpec, to: ServiceSpec): string[] {
  const lines: string[] = [];
  if (from.code.wheel !== to.code.wheel)
    lines.push(`code ${from.code.version} (${short(from.code.wheel)}) -> ${to.code.version} (${short(to.code.wheel)})`);
  else if (from.code.version !== to.code.version || from.code.file !== to.code.file)
    lines.push(`code ${from.code.version} (${from.code.file}) -> ${to.code.version} (${to.code.file})`);
  if (from.python.lock !== to.python.lock) lines.push(`Python lock ${short(from.python.lock)} -> ${short(to.python.lock)}`);
  return lines;
}

function modelChanges(from: ModelRef | null, to: ModelRef | null): string[] {
  if (from === null || to === null) {
    return from === to ? [] : [`model ${from?.id ?? "none"} -> ${to?.id ?? "none"}`];
  }
  const lines: string[] = [];
  if (from.id !== to.id || from.revision !== to.revision) {
    lines.push(`model ${from.id}@${from.revision} -> ${to.id}@${to.revision}`);
  } else if (from.manifest !== to.manifest) {
    const files = [...new Set([...Object.keys(from.files), ...Object.keys(to.files)])].sort();
    const changed = files.filter((file) => from.files[file] !== to.files[file]);
    lines.push(`model files of ${to.id}: ${changed.length > 0 ? changed.join(", ") : "manifest"}`);
  }
  if (from.name !== to.name) lines.push(`model name ${from.name} -> ${to.name}`);
  if (from.generation !== to.generation) lines.push(`vector space ${from.generation ?? "none"} -> ${to.generation ?? "none"}`);
  return lines;
}

function deviceChanges(from: ServiceSpec, to: ServiceSpec): string[] {
  const lines: string[] = [];
  if (from.device.prefer !== to.device.prefer) lines.push(`device.prefer ${from.device.prefer} -> ${to.device.prefer}`);
  if (from.device.require !== to.device.require)
    lines.push(`device.require ${from.device.require ?? "none"} -> ${to.device.require ?? "none"}`);
  if (from.device.proof !== to.device.proof) lines.push(`device.proof ${from.device.proof} -> ${to.device.proof}`);
  return lines;
}

function envChanges(from: Readonly<Record<string, string>>, to: Readonly<Record<string, string>>): string[] {
  const names = [...new Set([...Object.keys(from), ...Object.keys(to)])].sort();
  return names.filter((name) => from[name] !== to[name]).map((name) => `env ${name} ${shown(from[name])} -> ${shown(to[name])}`);
}

function secretChanges(from: Readonly<Record<string, string>>, to: Readonly<Record<string, string>>): string[] {
  const names = [...new Set([...Object.keys(from), ...Object.keys(to)])].sort();
  return names
    .filter((name) => from[name] !== to[name])
    .map((name) => `secret ${name} ${from[name] === undefined ? "added" : to[name] === undefined ? "removed" : "changed"}`);
}

function listenChanges(from: ServiceSpec, to: ServiceSpec): string[] {
  const lines: string[] = [];
  if (from.listen.host !== to.listen.host) lines.push(`bind ${from.listen.host} -> ${to.listen.host}`);
  if (from.listen.port !== to.listen.port) lines.push(`port ${from.listen.port} -> ${to.listen.port}`);
  return lines;
}
