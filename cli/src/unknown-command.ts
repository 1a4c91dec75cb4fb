import { GpuctlError } from "./domain/errors.js";
import { nearest } from "./domain/config/suggest.js";

/** There is no such command. Nothing is run in its place: a typo must never deploy. */
export class UnknownCommand extends GpuctlError {
  readonly exit = "unknownCommand";
}

/**
 * @param words what was typed before the first flag: the command and, we cannot know, its arguments
 * @param ids   ids of the known commands, `config:view`
 */
export function unknownCommand(words: readonly string[], ids: readonly string[]): UnknownCommand {
  const known = ids.map((id) => id.replaceAll(":", " "));
  const topics = new Set(known.filter((id) => id.includes(" ")).map((id) => id.split(" ")[0]));
  const typed = topics.has(words[0]) ? words.slice(0, 2).join(" ") : (words[0] ?? "");
  const guess = nearest(typed, known) ?? nearest(words.slice(0, 2).join(" "), known);
  return new UnknownCommand(`gpuctl has no command "${typed}"`, {
    because: guess === null ? "no known command has a name like it" : `the nearest one is "${guess}"; nothing was run`,
    nextSteps: [...new Set([...(guess === null ? [] : [`gpuctl ${guess}`]), "gpuctl help"])],
    data: { command: typed, suggestion: guess },
  });
}
