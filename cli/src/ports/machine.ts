/** The machine this command runs on, and what it reads there and from services. */
import type { EnvironmentConfig, SecretSource, ServiceConfig } from "../domain/config/resolved.js";
import type { SourceDocument } from "../domain/config/source.js";
import type { HostFacts } from "../domain/doctor/facts.js";
import type { Sha256 } from "../domain/names.js";
import type { Finding, HttpRequest, HttpResponse } from "./target-driver.js";

/** What would be deployed for a service: this gpuctl's own wheel and Python lock, or on targets of containers an image. */
export interface CodeSource {
  current(service: ServiceConfig): Promise<{ wheel: Sha256; file: string; version: string; lock: Sha256 }>;
}

/** gpuctl.yaml and the user file, wherever they are. */
export interface ConfigFiles {
  /** A path a person gave, against the folder they are in. */
  absolute(path: string, cwd: string): string;
  /** The project file in `from` or the nearest folder above, not above the repository's root; else where it was looked for. */
  find(from: string): Promise<{ found: string } | { found: null; searched: readonly string[]; nearMiss: string | null }>;
  /** Real path, text and parsed value. Throws ConfigInvalid when it cannot be read or is no text; null when it does not exist. */
  read(path: string): Promise<{ realPath: string; document: SourceDocument } | null>;
  /** Creates a file that must not exist yet; false when something is already there. */
  create(path: string, text: string): Promise<boolean>;
}

/** The machine this command runs on, looked at without changing anything. */
export interface HostInspector {
  inspect(signal: AbortSignal): Promise<HostFacts>;
  /** For each public address: free, held by this environment's keeper or instances, or taken. */
  ports(config: EnvironmentConfig, instancePids: readonly number[]): Promise<readonly Finding[]>;
}

export interface SecretReader {
  /** Throws ConfigInvalid naming the variable or file that is missing. Never logs the value. */
  read(name: string, source: SecretSource): Promise<string>;
}

/** Plain HTTP to a public service address. */
export interface HttpClient {
  request(base: string, request: HttpRequest, signal?: AbortSignal): Promise<HttpResponse>;
}
