import type { ServiceName } from "../domain/names.js";
import type { LoadPlan, LoadRequest } from "../ports.js";

/** What is sent to one kind of service and how its answers are judged. */
export interface Workload {
  service: ServiceName;
  /** What a request carries several of. */
  unit: "texts" | "documents" | "queries";
  /** Items a request carries. */
  batch: number;
  request(ordinal: number): LoadRequest;
  tokens: LoadPlan["tokens"];
  /** Names of what is wrong with an answer; empty when all is well. */
  check(ordinal: number, body: string): readonly string[];
  /** The same question put differently, to be asked after the load: a service that mixes up its answers passes every other check. */
  again(ordinal: number): LoadRequest;
  /** Compares the answers to `request` and to `again`; says what differs. */
  compare(first: string, second: string): string | null;
}

/** Tokens as the service reports them: the header of the embedder and reranker, or an OpenAI-style usage near the end of the body. */
export function reportedTokens(headers: Readonly<Record<string, string | string[] | undefined>>, tail: string): number | null {
  const header = headers["x-compute-tokens"];
  if (typeof header === "string" && /^\d+$/.test(header)) return Number(header);
  const usage = /"total_tokens"\s*:\s*(\d+)/.exec(tail)?.[1];
  return usage === undefined ? null : Number(usage);
}

/** Parses an answer; null when it is no JSON, as a body that was cut off is not. */
export function parsed(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return null;
  }
}

/** A field of something that may not be an object at all. */
export function field(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}

export const notJson = "it is no complete JSON";
