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

/** A command of Pulumi, as it is typed: it looks for its project from where it runs. */
export const inFolder = ({ directory }: Doing, command: string): string => `cd ${directory} && ${command}`;
