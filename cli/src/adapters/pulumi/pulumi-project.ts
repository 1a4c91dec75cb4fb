import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import { PreflightRefused } from "../../domain/errors.js";
import type { PulumiProject, StackPlace } from "../../ports/infra.js";
import { stateHome, type Environment } from "../state/directories.js";

const projectFile = z.object({
  name: z.string(),
  stackConfigDir: z.string().optional(),
  backend: z.object({ url: z.string().optional() }).nullish(),
});

const fileNames = ["Pulumi.yaml", "Pulumi.yml"];

/** Where Pulumi keeps state, and who said so. */
type Backend =
  /** Given to the process as PULUMI_BACKEND_URL. */
  | { by: "settings" | "gpuctl"; url: string }
  /** Pulumi finds it by itself: by PULUMI_BACKEND_URL, its project file or its login. */
  | { by: "pulumi"; url: string };

/** A project, and what starting Pulumi for it takes. */
export interface ReadProject extends Omit<PulumiProject, "platform"> {
  /** Folder of state that lies on this machine; null where it lies elsewhere. */
  stateFolder: string | null;
  /** What the process is given as PULUMI_BACKEND_URL; null where Pulumi finds its backend by itself. */
  setBackend: string | null;
}

/** Reads Pulumi.yaml in a folder or above it. Throws PreflightRefused when there is none, or it cannot be understood. */
export async function readProject(place: StackPlace, env: Environment): Promise<ReadProject> {
  const file = find(place.directory);
  if (file === null)
    throw new PreflightRefused(`there is no Pulumi.yaml in ${place.directory} or above`, {
      because: "gpuctl infra runs the Pulumi program that lies there",
      nextSteps: ["infra: { directory: PATH }   # in gpuctl.yaml: the folder of the Pulumi project"],
    });
  const parsed = projectFile.safeParse(await yamlOf(file));
  if (!parsed.success)
    throw new PreflightRefused(`${file} cannot be understood`, {
      because: "Pulumi's project file is a YAML map with at least a name",
      nextSteps: [`pulumi about   # in ${dirname(file)}`],
    });
  const { name, stackConfigDir, backend: own } = parsed.data;
  const directory = dirname(file);
  const backend = await backendOf(place, own?.url ?? null, env);
  return {
    name,
    directory,
    configured: await configuredStacks(join(directory, stackConfigDir ?? ".")),
    backend: withoutCredentials(backend.url),
    embedded: backend.by === "gpuctl",
    givenBackend: backend.by === "pulumi" ? null : withoutCredentials(backend.url),
    setBackend: backend.by === "pulumi" ? null : backend.url,
    stateFolder: localFolder(backend.url, directory, env),
  };
}

function find(from: string): string | null {
  for (let folder = resolve(from); ; folder = dirname(folder)) {
    for (const name of fileNames) if (existsSync(join(folder, name))) return join(folder, name);
    if (dirname(folder) === folder) return null;
  }
}

async function yamlOf(file: string): Promise<unknown> {
  try {
    return parse(await readFile(file, "utf8")) as unknown;
  } catch {
    return null;
  }
}

async function configuredStacks(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => []);
  return names.flatMap((name) => /^Pulumi\.(.+)\.ya?ml$/.exec(name)?.[1] ?? []).sort();
}

/** PULUMI_BACKEND_URL, gpuctl.yaml, Pulumi.yaml, a login of the user, else files of this machine. */
async function backendOf(place: StackPlace, inProject: string | null, env: Environment): Promise<Backend> {
  const variable = env["PULUMI_BACKEND_URL"];
  if (variable) return { by: "pulumi", url: variable };
  if (place.backend !== null) return { by: "settings", url: place.backend };
  if (inProject !== null) return { by: "pulumi", url: inProject };
  if (env["PULUMI_ACCESS_TOKEN"]) return { by: "pulumi", url: "https://api.pulumi.com" };
  const login = await loginOf(env);
  return login === null ? { by: "gpuctl", url: `file://${join(stateHome(env), "infra")}` } : { by: "pulumi", url: login };
}

/** Where the user is logged in by `pulumi login`, or null. */
async function loginOf(env: Environment): Promise<string | null> {
  const home = env["PULUMI_HOME"] || join(env["HOME"] || homedir(), ".pulumi");
  const parsed = z.object({ current: z.string().min(1) }).safeParse(await yamlOf(join(home, "credentials.json")));
  return parsed.success ? parsed.data.current : null;
}

/** The folder of a backend of files, as Pulumi reads its address. */
function localFolder(url: string, directory: string, env: Environment): string | null {
  if (!url.startsWith("file://")) return null;
  const path = url.slice("file://".length).replace(/\?.*$/, "");
  return path.startsWith("~") ? join(env["HOME"] || homedir(), path.slice(1)) : resolve(directory, path);
}

const withoutCredentials = (url: string): string => url.replace(/\/\/[^/@]*@/, "//").replace(/\?.*$/, "");
