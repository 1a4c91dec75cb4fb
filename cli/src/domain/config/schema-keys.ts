import { z } from "zod";
import { valueAt } from "./issues.js";
import type { Path } from "./source.js";

/** Keys that the schema knows at a path, for suggestions. `root` decides which branch of a discriminated union is meant. */
export function keysAt(schema: z.ZodType, path: Path, root: unknown): readonly string[] {
  let current: readonly z.core.$ZodType[] = [schema];
  for (const [depth, part] of path.entries()) {
    const value = valueAt(root, path.slice(0, depth));
    current = current.flatMap((one) => branches(one, value)).flatMap((one) => child(one, part));
  }
  const value = valueAt(root, path);
  const keys = current
    .flatMap((one) => branches(one, value))
    .flatMap((one) => (one instanceof z.ZodObject ? Object.keys(one.shape) : []));
  return [...new Set(keys)];
}

/** Unwraps optional values, transforms and unions down to schemas with children. */
function branches(schema: z.core.$ZodType, value: unknown): readonly z.core.$ZodType[] {
  if (schema instanceof z.ZodOptional) return branches(schema.unwrap(), value);
  if (schema instanceof z.ZodPipe) return branches(schema.in, value);
  if (schema instanceof z.ZodDiscriminatedUnion) {
    const key = schema.def.discriminator;
    const chosen = schema.options.filter((option) => discriminates(option, key, valueAt(value, [key])));
    return (chosen.length > 0 ? chosen : schema.options).flatMap((option) => branches(option, value));
  }
  if (schema instanceof z.ZodUnion) return schema.options.flatMap((option) => branches(option, value));
  return [schema];
}

function discriminates(option: z.core.$ZodType, key: string, value: unknown): boolean {
  const literal = option instanceof z.ZodObject ? (option.shape as Record<string, unknown>)[key] : undefined;
  return literal instanceof z.ZodLiteral && literal.value === value;
}

function child(schema: z.core.$ZodType, part: string | number): readonly z.core.$ZodType[] {
  if (schema instanceof z.ZodObject) {
    const found = (schema.shape as Record<string, z.core.$ZodType>)[part];
    return found ? [found] : [];
  }
  if (schema instanceof z.ZodRecord) return [schema.valueType];
  if (schema instanceof z.ZodArray) return [schema.element];
  return [];
}
