import { inFolder, refused, type Doing, type Rule } from "./trouble.js";

const because = "the program marks what holds data and what has an address, so that no change deletes it by accident";

/** The command that gives up the protection of a stack. It holds from the next `infra up` on. */
export const unprotectStep = (doing: Pick<Doing, "directory" | "givenBackend" | "stack">): string =>
  inFolder(doing, `pulumi config set gpuctl:protect false --stack ${doing.stack}`);

/** What a destroy would keep is offered to those who destroy, and to nobody else. */
const afterDestroy = (doing: Doing): readonly string[] => [
  `gpuctl infra destroy --stack ${doing.stack} --confirm ${doing.stack} --keep-protected   # everything else`,
  `or give up the protection: ${unprotectStep(doing)}`,
  `then gpuctl infra up --stack ${doing.stack}, and ${doing.again}`,
];

/** The provider protects it too, so that giving up the protection has to be a change of its own, made before. */
const afterUp = (doing: Doing, back: string, again: string): readonly string[] => [
  `${back} in Pulumi.${doing.stack}.yaml: it stays as it is`,
  `to give it up, begin with that all the same, then: ${unprotectStep(doing)}`,
  `gpuctl infra up --stack ${doing.stack}   # takes the protection off, and nothing else`,
  `${again}, then gpuctl infra up --stack ${doing.stack} --confirm ${doing.stack}`,
];

const destroys = ({ again }: Doing): boolean => again.startsWith("gpuctl infra destroy ");

/** What Pulumi says of something that the program protects and that a change would delete or make anew. */
export const protectionTroubles: readonly Rule[] = [
  {
    pattern: /resource "[^"]*::([^":]+)" cannot be deleted\s+because it is protected/,
    words: ([, name = ""], doing) =>
      refused(
        destroys(doing) ? `${name} is protected` : `${name} is no longer in the configuration, and is protected`,
        because,
        destroys(doing) ? afterDestroy(doing) : afterUp(doing, `put ${name} back`, "take it out again"),
      ),
  },
  {
    pattern: /unable to replace resource "[^"]*::([^":]+)"\s+(?:as|because) it is (?:currently )?marked for protection/,
    words: ([, name = ""], doing) =>
      refused(
        `${name} would be made anew, and is protected`,
        because,
        afterUp(doing, `take back what changed of ${name}`, "make the change again"),
      ),
  },
];
