/** Why Pulumi failed, in words of gpuctl. `kind` decides the exit code. */
export interface Explanation {
  kind: "refused" | "config" | "unreachable" | "failed";
  message: string;
  because: string;
  nextSteps: readonly string[];
}

/** What a person was doing, for commands that continue it. */
export interface Doing {
  stack: string;
  /** `gpuctl infra up --stack prod`. */
  again: string;
  /** Folder with Pulumi.yaml. */
  directory: string;
  /** Where state lies, without credentials. */
  backend: string;
  /** What gpuctl gives to Pulumi as PULUMI_BACKEND_URL, without credentials; null where Pulumi finds its backend by itself. */
  givenBackend: string | null;
  /** Platform of the plugins' files, such as `linux-amd64`. */
  platform: string;
}

/** A trouble by what is printed of it. */
export interface Rule {
  pattern: RegExp;
  /** @param about  the resource that it is about, `server web` */
  words: (match: RegExpExecArray, doing: Doing, about: string) => Explanation;
}

/** Nothing was changed. */
export const refused = (message: string, because: string, nextSteps: readonly string[]): Explanation => ({
  kind: "refused",
  message,
  because,
  nextSteps,
});
/** Something may have been changed. */
export const failed = (message: string, because: string, nextSteps: readonly string[]): Explanation => ({
  kind: "failed",
  message,
  because,
  nextSteps,
});

/**
 * A command of Pulumi, as it is typed: it looks for its project from where it runs, and for its state where it is told to, which
 * gpuctl tells only its own processes.
 */
export function inFolder({ directory, givenBackend }: Pick<Doing, "directory" | "givenBackend">, command: string): string {
  const backend = givenBackend === null || !command.startsWith("pulumi ") ? "" : `PULUMI_BACKEND_URL=${quoted(givenBackend)} `;
  return `cd ${quoted(directory)} && ${backend}${command}`;
}

/** A word as a shell reads it. */
const quoted = (word: string): string => (/^[\w@%+=:,./~-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

/** How a secret of the stack is set: it is asked for, and never stands in the arguments. */
export const secretStep = (doing: Doing, key: string): string =>
  inFolder(doing, `pulumi config set --secret ${key} --stack ${doing.stack}   # asks for the value`);
