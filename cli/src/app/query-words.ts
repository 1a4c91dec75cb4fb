import { UsageError } from "../domain/errors.js";

/** A question has words in it. */
export function parseQuestion(text: string): string {
  const question = text.trim();
  if (question !== "") return question;
  throw new UsageError("the question is empty", {
    because: "there is nothing to search for",
    nextSteps: ['gpuctl query "how do I roll back?"'],
  });
}

/** Metadata a chunk must have; a list means any of its values. */
export type Filter = Readonly<Record<string, string | readonly (string | number | boolean)[]>>;

/** `KEY=VALUE` words of --filter. */
export function parseFilter(words: readonly string[]): Filter {
  const pairs = words.map((word) => {
    const at = word.indexOf("=");
    if (at > 0) return [word.slice(0, at), typed(word.slice(at + 1))] as const;
    throw new UsageError(`--filter ${word} is no condition`, {
      because: "it must be KEY=VALUE, where KEY is a key of the chunks' metadata",
      nextSteps: ['gpuctl query "..." --filter source=README.md'],
    });
  });
  return Object.fromEntries(pairs);
}

/** The command line has no types: `line=41` is meant to find the number as well as the text. */
function typed(value: string): string | readonly (string | number | boolean)[] {
  if (/^-?(?:0|[1-9]\d{0,14})(?:\.\d{1,9})?$/.test(value)) return [value, Number(value)];
  return value === "true" || value === "false" ? [value, value === "true"] : value;
}
