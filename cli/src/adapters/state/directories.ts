import { createHash } from "node:crypto";
import { realpathSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, isAbsolute, join, resolve } from "node:path";

/** Variables by name, as a process has them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Where things live on this machine (docs/architecture.md, "Directories"). */
export interface Directories {
  /** State of one environment. */
  state: string;
  /** Unix sockets of that environment; inside `state` unless their paths would be too long. */
  run: string;
  /** Holds `python/`, which every project shares. */
  cache: string;
  /** Model store, which every project shares. */
  models: string;
}

/** Every directory of an environment, from the variables of this process and the place of gpuctl.yaml. */
export function directoriesOf(
  project: { project: string; projectFile: string; environment: string },
  env: Environment,
): Directories {
  const home = realDirectory(dirname(project.projectFile));
  const key = `${project.project}-${sha256(home).slice(0, 8)}`;
  const state = join(stateHome(env), key, project.environment);
  return { state, run: runDirectory(state, currentUid()), cache: cacheHome(env), models: modelStore(env) };
}

/** Holds the state of every project of this user. */
export function stateHome(env: Environment): string {
  return own(env, "GPUCTL_STATE_HOME") ?? join(xdg(env, "XDG_STATE_HOME", ".local/state"), "gpuctl");
}

export function cacheHome(env: Environment): string {
  return own(env, "GPUCTL_CACHE_DIR") ?? join(xdg(env, "XDG_CACHE_HOME", ".cache"), "gpuctl");
}

export function modelStore(env: Environment): string {
  return own(env, "GPUCTL_MODEL_STORE") ?? join(xdg(env, "XDG_DATA_HOME", ".local/share"), "gpuctl/models");
}

/** A unix socket's path has 108 bytes with its end; macOS has 104. */
const longestSocketPath = 100;
const longestSocketName = 32;

/** Where the sockets of a state directory live. The Python side computes the same; test/golden/run-directory.json pins both. */
export function runDirectory(state: string, uid: number): string {
  const inside = join(state, "run");
  if (Buffer.byteLength(`${inside}/`) + longestSocketName <= longestSocketPath) return inside;
  return `/tmp/gpuctl-${uid.toString()}/${sha256(state).slice(0, 16)}`;
}

export const currentUid = (): number => process.getuid?.() ?? 0;

/** A directory the user named: relative ones count from where the command runs. */
function own(env: Environment, name: string): string | null {
  const value = env[name];
  return value === undefined || value === "" ? null : resolve(value);
}

/** The XDG specification: a relative or empty value is to be ignored. */
function xdg(env: Environment, name: string, fallback: string): string {
  const value = env[name];
  if (value !== undefined && isAbsolute(value)) return resolve(value);
  const home = env["HOME"];
  return join(home === undefined || home === "" ? homedir() : home, fallback);
}

function realDirectory(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return resolve(path);
  }
}

const sha256 = (text: string): string => createHash("sha256").update(text, "utf8").digest("hex");
