/** One request to the fake provider on its way through the routes. */
import type { Catalogue } from "./catalogue.js";
import { ApiError, type World } from "./world.js";

export interface Call {
  method: string;
  /** Below `/v1`. */
  path: string;
  query: URLSearchParams;
  body: Record<string, unknown>;
  /** Parts of the path that a route left open. */
  params: readonly string[];
  world: World;
  catalogue: Catalogue;
}

export interface Reply {
  status: number;
  body?: unknown;
}

export type Route = [method: string, pattern: RegExp, handle: (call: Call) => Reply];

export const ok = (body: unknown): Reply => ({ status: 200, body });
export const created = (body: unknown): Reply => ({ status: 201, body });
export const gone: Reply = { status: 204 };

/** A page of a list, with the `meta.pagination` that clients follow until `next_page` is null. */
export function page(call: Call, name: string, items: readonly unknown[]): Reply {
  const wanted = (key: string, fallback: number): number => {
    const given = call.query.get(key);
    const number = given === null ? fallback : Number(given);
    if (!Number.isInteger(number) || number < 1) throw invalid(key, `must be a number of at least 1`);
    return number;
  };
  const [number, size] = [wanted("page", 1), Math.min(50, wanted("per_page", 25))];
  const last = Math.max(1, Math.ceil(items.length / size));
  const pagination = {
    page: number,
    per_page: size,
    previous_page: number > 1 ? number - 1 : null,
    next_page: number < last ? number + 1 : null,
    last_page: last,
    total_entries: items.length,
  };
  return ok({ [name]: items.slice((number - 1) * size, number * size), meta: { pagination } });
}

export const invalid = (field: string, message: string): ApiError =>
  new ApiError(422, "invalid_input", `invalid input in field '${field}'`, { fields: [{ name: field, messages: [message] }] });

/** A field of a body that must be text. */
export function text(body: Record<string, unknown>, field: string): string {
  const value = body[field];
  if (typeof value !== "string" || value === "") throw invalid(field, "Missing data for required field.");
  return value;
}

/** The labels of a body, checked by the rules that the API has for them. */
export function labels(body: Record<string, unknown>): Record<string, string> {
  const given = (body["labels"] ?? {}) as Record<string, unknown>;
  for (const [key, value] of Object.entries(given)) {
    const name = key.split("/").at(-1) ?? "";
    const fine = /^[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/;
    if (!fine.test(name) || key.startsWith("hetzner.cloud/")) throw invalid("labels", `label key ${key} is not allowed`);
    if (typeof value !== "string" || (value !== "" && !fine.test(value)))
      throw invalid("labels", `value of label ${key} is not allowed`);
  }
  return given as Record<string, string>;
}
