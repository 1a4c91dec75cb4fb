import { exitCodes, type ExitCodeName } from "../domain/errors.js";

const meanings: Readonly<Record<ExitCodeName, string>> = {
  ok: "done, or nothing to do",
  failed: "the command could not do what was asked; the text says why",
  usage: "the command line is wrong",
  configInvalid: "gpuctl.yaml is wrong, or asks for what this version cannot do",
  targetUnreachable: "the node, keeper, engine or service does not answer",
  preflightRefused: "a check before anything was touched said no; nothing has changed",
  candidateFailed: "the candidate failed; the old release was kept or restored",
  changesPending: "plan --exit-code: there is something to do",
  gateMissed: "a benchmark or service-level gate was missed",
  targetMixed: "instances of two releases serve, or may on hosts that were left out; the text names the next command",
  bug: "a bug in gpuctl",
  unknownCommand: "there is no such command; nothing was run",
  interrupted: "ended by SIGINT (Ctrl-C), cleaned up",
  terminated: "ended by SIGTERM, cleaned up",
};

export interface ExitCodeRow {
  code: number;
  name: ExitCodeName;
  meaning: string;
}

/** The one table of exit codes with their meanings, by code. */
export function exitCodeTable(): readonly ExitCodeRow[] {
  const names = Object.keys(exitCodes) as ExitCodeName[];
  return names
    .map((name) => ({ code: exitCodes[name], name, meaning: meanings[name] }))
    .sort((left, right) => left.code - right.code);
}

export function exitCodePage(): string {
  const rows = exitCodeTable().map(({ code, meaning }) => `  ${code.toString().padStart(3)}  ${meaning}`);
  const note = "The code is the same with and without --json, where it is also error.exitCode.";
  return ["Exit codes", "", ...rows, "", note, ""].join("\n");
}
