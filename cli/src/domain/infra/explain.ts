import { engineTroubles, oldPluginText } from "./engine-troubles.js";
import { cutOffSteps, cutOffText } from "./cut-off.js";
import { changesType } from "./availability.js";
import type { Change, Diagnostic } from "./preview.js";
import { ofProvider, providerTroubles } from "./provider-troubles.js";
import { troublesOf } from "./host-troubles.js";
import { called } from "./resource.js";
import { failed, inFolder, secretStep, type Doing, type Explanation, type Rule } from "./trouble.js";

const crash = /^Running program '[^']*' failed with an unhandled exception:\n?([\s\S]*)$/;

/**
 * Explains a failure by everything that was said: errors of the preview or the update, and stderr.
 * @param planned what the update was to change
 */
export function explain(said: readonly Diagnostic[], stderr: string, doing: Doing, planned: readonly Change[] = []): Explanation {
  const errors = said.filter(({ severity }) => severity === "error");
  const found = explained(errors, stderr, doing);
  // It may be the reason of whatever went wrong.
  const plugins = said.flatMap(({ message }) => oldPluginText(message) ?? []);
  const doubts = said.some(({ message }) => cutOffText(message) !== null) ? cutOffSteps(doing) : [];
  const steps = doubts.length === 0 ? found.nextSteps : withDoubts(found.nextSteps, doubts, doing);
  return { ...found, nextSteps: [...new Set([...poweredOff(errors, planned), ...plugins, ...steps])] };
}

/** A server whose type could not be changed: the provider powered it off first, and does not undo that. */
function poweredOff(errors: readonly Diagnostic[], planned: readonly Change[]): string[] {
  return planned
    .filter(
      (change) => changesType(change) && errors.some(({ about }) => about?.type === change.type && about.name === change.name),
    )
    .map(
      (change) =>
        `${called(change)} may be off now, with its old type: hcloud server poweron ${change.id ?? "NAME"}, or console.hetzner.cloud, Servers, Power on`,
    );
}

/** Before the change is tried again; of two commands that differ in their remark alone, the one that knows more. */
function withDoubts(steps: readonly string[], doubts: readonly string[], { again }: Doing): string[] {
  const command = (step: string): string => step.replace(/ +# .*/, "");
  const own = steps.filter((step) => step !== again && !doubts.some((doubt) => command(doubt) === command(step)));
  return [...own, ...doubts, again];
}

function explained(errors: readonly Diagnostic[], stderr: string, doing: Doing): Explanation {
  const said = [...errors.map(({ message }) => message), stderr].join("\n");
  for (const { pattern, words } of engineTroubles) {
    const match = pattern.exec(said);
    if (match !== null) return words(match, doing, "");
  }
  for (const { about, message } of errors) {
    const known =
      ruled(providerTroubles, ofProvider(about?.type ?? null, message)) ?? ruled(troublesOf(about?.type ?? ""), message);
    if (known !== null) return known.words(known.match, doing, about === null ? "a resource" : called(about));
  }
  const own = errors.filter(({ about, message }) => about === null && !/^(?:update|preview|destroy) failed$/.test(message));
  const [program] = own;
  if (program !== undefined) return ofProgram(program.message, doing);
  const [first] = errors;
  const because = first === undefined ? lastLine(stderr) : first.message;
  const message = first?.about == null ? "Pulumi failed" : `${called(first.about)} could not be changed`;
  return failed(message, because, [doing.again, inFolder(doing, `pulumi stack --stack ${doing.stack}   # what is there`)]);
}

/** The first rule that fits a text, with what it found there. */
function ruled(rules: readonly Rule[], text: string | null): (Pick<Rule, "words"> & { match: RegExpExecArray }) | null {
  if (text === null) return null;
  for (const { pattern, words } of rules) {
    const match = pattern.exec(text);
    if (match !== null) return { words, match };
  }
  return null;
}

/** What the program itself said: refusals of the configuration as they are written, a crash without its stack trace. */
function ofProgram(message: string, doing: Doing): Explanation {
  const inside = crash.exec(message)?.[1];
  const text = (inside ?? message)
    .split("\n")
    .filter((line) => !/^\s+at |^Next: /.test(line))
    .join("\n")
    .trim()
    .replace(/^(?:Error|RunError): /, "");
  return {
    kind: "config",
    message: `the program of the infrastructure refuses\n\n${text}\n`,
    because: inside === undefined ? "see above" : "it ended with an error",
    nextSteps: [
      `correct the configuration of the stack: ${doing.directory}, Pulumi.${doing.stack}.yaml`,
      `a secret that is missing there: ${secretStep(doing, "KEY")}`,
      doing.again,
    ],
  };
}

const lastLine = (text: string): string =>
  text
    .split("\n")
    .map((line) => line.trim().replace(/^error: /, ""))
    .findLast((line) => line !== "") ?? "it said nothing";
