import { parseJson } from "../preflight/json-value.js";

/** What Caddy's admin API says, read tolerantly: fields that a later version adds are ignored, what is missing is unknown. */

/** One place as Caddy counts it; all its listeners together. */
export interface UpstreamState {
  address: string;
  /** Requests in flight. */
  requests: number;
  fails: number;
}

/** Reads `GET /reverse_proxy/upstreams`; null when it is no such answer. Entries that make no sense are left out. */
export function readUpstreams(text: string): readonly UpstreamState[] | null {
  const parsed = parseJson(text);
  if (!Array.isArray(parsed)) return null;
  return parsed.flatMap((entry: unknown) => {
    const { address, num_requests: requests, fails } = (entry ?? {}) as Record<string, unknown>;
    if (typeof address !== "string" || !isCount(requests)) return [];
    return [{ address, requests, fails: isCount(fails) ? fails : 0 }];
  });
}

/** Requests in flight to a place; null when Caddy does not list it. A place may be listed more than once while it reloads. */
export function requestsInFlight(upstreams: readonly UpstreamState[], address: string): number | null {
  const listed = upstreams.filter((upstream) => upstream.address === address);
  return listed.length === 0 ? null : listed.reduce((sum, { requests }) => sum + requests, 0);
}

/** One sample of Prometheus' text format. */
export interface Sample {
  name: string;
  labels: Readonly<Record<string, string>>;
  value: number;
}

/** Reads Prometheus' text format. Lines that are no sample are left out; a scrape that was cut off gives what came. */
export function readMetrics(text: string): readonly Sample[] {
  return text.split("\n").flatMap((line) => readSample(line.trim()) ?? []);
}

const sampleLine = /^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?$/;

function readSample(line: string): Sample | null {
  const match = line.startsWith("#") ? null : sampleLine.exec(line);
  if (match === null) return null;
  const [, name, labels, value] = match;
  const number = readNumber(value ?? "");
  if (name === undefined || number === null) return null;
  return { name, labels: readLabels(labels ?? ""), value: number };
}

function readLabels(text: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [, name, value] of text.matchAll(/([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"/g))
    if (name !== undefined && value !== undefined)
      found[name] = value.replaceAll(/\\(.)/g, (_, c: string) => (c === "n" ? "\n" : c));
  return found;
}

function readNumber(text: string): number | null {
  if (/^[+-]?Inf$/.test(text)) return text.startsWith("-") ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  if (text === "NaN") return Number.NaN;
  return /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/.test(text) ? Number(text) : null;
}

/** Requests that the whole proxy is answering now; null when it has no such metric. A request counts in each of its handlers: of a server's, the most counts. */
export function proxyInFlight(samples: readonly Sample[]): number | null {
  const most = new Map<string, number>();
  for (const { name, labels, value } of samples) {
    const server = labels["server"] ?? "";
    if (name === "caddy_http_requests_in_flight") most.set(server, Math.max(value, most.get(server) ?? 0));
  }
  return most.size === 0 ? null : [...most.values()].reduce((sum, count) => sum + count, 0);
}

/** Whether Caddy takes a place for usable, by its metric. It is renewed every 10 s only: good for `status`, too old for a switch. */
export function isHealthy(samples: readonly Sample[], address: string): boolean | null {
  const sample = samples.find(
    ({ name, labels }) => name === "caddy_reverse_proxy_upstreams_healthy" && labels["upstream"] === address,
  );
  return sample === undefined ? null : sample.value === 1;
}

const isCount = (value: unknown): value is number => typeof value === "number" && Number.isInteger(value) && value >= 0;
