/** A command for a host's shell: argv, variables that hold only for it, and the directory it runs in. */
export interface ShellCommand {
  argv: readonly [string, ...string[]];
  env?: Readonly<Record<string, string>>;
  cwd?: string;
}

const plain = /^[A-Za-z0-9_@%+:,./-]+$/;

/**
 * One word as any shell reads it. Backslashes stand outside the single quotes, because fish reads them inside.
 * Throws RangeError for a NUL, which no argument of a process can hold.
 */
export function quoteWord(word: string): string {
  if (word.includes("\0")) throw new RangeError("an argument of a command cannot hold a NUL character");
  if (plain.test(word)) return word;
  const pieces = word.split(/([\\']+)/).map((piece, position) => {
    if (position % 2 === 1) return piece.replace(/./g, "\\$&");
    return piece === "" ? "" : `'${piece}'`;
  });
  return pieces.join("") || "''";
}

/**
 * The command as one line for `sh`. `env` starts the program, so that a name is never taken for a word of the shell. A directory
 * that cannot be entered ends the line before the program starts: with `cd X; program` it would run elsewhere.
 * Throws RangeError for what cannot be said this way.
 */
export function shellLine(command: ShellCommand): string {
  const [program, ...args] = command.argv;
  if (/^-|=/.test(program) || program === "") throw new RangeError(`${JSON.stringify(program)} is no name of a program`);
  const assignments = Object.entries(command.env ?? {}).map(([name, value]) => {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) throw new RangeError(`${name} is no name of an environment variable`);
    return `${name}=${quoteWord(value)}`;
  });
  const line = ["exec", "env", ...assignments, ...[program, ...args].map(quoteWord)].join(" ");
  return command.cwd === undefined ? line : `cd -- ${quoteWord(command.cwd)} && ${line}`;
}

/** A script for whatever login shell the account has: the POSIX one is started to read it. */
export function forLoginShell(script: string): string {
  return `exec /bin/sh -c ${quoteWord(script)}`;
}
