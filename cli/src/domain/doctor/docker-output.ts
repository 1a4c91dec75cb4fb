import type { SmiOutput } from "../nvidia-smi.js";
import type { DockerFacts } from "./facts.js";

/** Reads `docker version --format json` and `docker info --format json`. `specs` are CDI kinds found in files, for engines that list none. */
export function readDocker(version: SmiOutput, info: SmiOutput | null, specs: readonly string[]): DockerFacts {
  const versions = parsed(version.stdout);
  const client = text(at(versions, "Client", "Version")) ?? "of unknown version";
  const server = text(at(versions, "Server", "Version"));
  if (server === null) {
    const said = version.stderr.replaceAll(/\s+/g, " ").trim();
    return {
      state: "unreachable",
      client,
      detail: said === "" ? "docker version names no server" : said.slice(0, 240).replace(/\.$/, ""),
    };
  }
  const details = parsed(info?.stdout ?? "");
  const discovered = at(details, "DiscoveredDevices");
  const listed = Array.isArray(discovered) ? discovered.flatMap((device: unknown) => text(at(device, "ID")) ?? []) : [];
  const runtimes = at(details, "Runtimes");
  return {
    state: "reachable",
    client,
    server,
    cdiDevices: listed.length > 0 ? listed : specs,
    runtimes: typeof runtimes === "object" && runtimes !== null ? Object.keys(runtimes) : [],
  };
}

function parsed(json: string): unknown {
  try {
    return JSON.parse(json) as unknown;
  } catch {
    return null;
  }
}

function at(value: unknown, ...keys: readonly string[]): unknown {
  let current = value;
  for (const key of keys) {
    if (typeof current !== "object" || current === null || !Object.hasOwn(current, key)) return undefined;
    current = (current as Record<string, unknown>)[key];
  }
  return current;
}

const text = (value: unknown): string | null => (typeof value === "string" && value !== "" ? value : null);
