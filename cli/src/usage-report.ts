import { nearest } from "./domain/config/suggest.js";

interface UsageWords {
  message: string;
  because: string | null;
}

/** What the command line's parser says, in the words that every other error has: what, and why. */
export function usageWords(error: Error): UsageWords {
  const said = error.message.replace(/\nSee more help with --help$/, "");
  return unknownFlag(error) ?? missingArguments(said) ?? wrongValue(said) ?? { message: said, because: null };
}

function unknownFlag(error: Error): UsageWords | null {
  const { flags, parse } = error as { flags?: unknown; parse?: { input?: { flags?: object } } };
  if (!error.message.startsWith("Nonexistent flag") || !Array.isArray(flags)) return null;
  const [typed = ""] = (flags as string[]).map((flag) => flag.split("=")[0] ?? flag);
  const near = nearest(typed.replace(/^-+/, ""), Object.keys(parse?.input?.flags ?? {}));
  return {
    message: `there is no flag ${typed}`,
    because: near === null ? "this command does not have it; nothing was run" : `the nearest one is --${near}; nothing was run`,
  };
}

/** The parser's own text goes on about flags with several values, which is true and helps nobody who forgot an argument. */
function missingArguments(said: string): UsageWords | null {
  const list = /^Missing \d+ required args?:\n([\s\S]+?)(?:\n\nNote:|$)/.exec(said)?.[1];
  if (list === undefined) return null;
  const names = list.split("\n").flatMap((line) => /^\S+/.exec(line.trim())?.[0].toUpperCase() ?? []);
  const [are, them] = names.length === 1 ? ["is", "it"] : ["are", "them"];
  return { message: `${names.join(" and ")} ${are} missing`, because: `the command needs ${them}; nothing was run` };
}

function wrongValue(said: string): UsageWords | null {
  const [, named, given = "", choices = ""] = /^Expected (?:(--[\w-]+)=)?(.*) to be one of: (.*)$/s.exec(said) ?? [];
  if (choices !== "")
    return {
      message: named === undefined ? `there is no ${given}` : `${named} cannot be ${given}`,
      because: `it is one of ${choices}`,
    };
  const [, flag, expected, received] = /^Parsing (--[\w-]+)\s+Expected (.*?) but received: (.*)$/s.exec(said) ?? [];
  if (flag === undefined || expected === undefined || received === undefined) return null;
  return { message: `${flag} cannot be ${received}`, because: `it is ${expected}` };
}
