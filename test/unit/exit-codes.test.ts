import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { exitCodePage, exitCodeTable } from "../../cli/src/app/exit-codes.js";
import * as errors from "../../cli/src/domain/errors.js";
import { reportError } from "../../cli/src/error-report.js";
import { packageRoot, runCommand } from "../support/run-command.js";
import Help from "../../cli/src/commands/help.js";

describe("the exit codes", () => {
  it("are these, for ever: scripts depend on them", () => {
    expect(errors.exitCodes).toEqual({
      ok: 0,
      failed: 1,
      usage: 2,
      configInvalid: 3,
      targetUnreachable: 4,
      preflightRefused: 5,
      candidateFailed: 6,
      changesPending: 7,
      gateMissed: 8,
      targetMixed: 9,
      bug: 70,
      unknownCommand: 127,
      interrupted: 130,
      terminated: 143,
    });
  });

  it("are given by exactly one class of error each", () => {
    const classes = Object.values(errors).filter(
      (value) => typeof value === "function" && value.prototype instanceof errors.GpuctlError,
    );
    const thrown = classes.map((value) => new (value as new (message: string) => errors.GpuctlError)("x"));
    expect(thrown.length).toBeGreaterThan(8);
    expect(new Set(thrown.map((error) => error.exit)).size).toBe(thrown.length);
    for (const error of thrown) {
      expect(reportError(error, { commandId: "", signal: null, debug: false }).exitCode).toBe(errors.exitCodes[error.exit]);
    }
  });

  it("turn from 130 to 143 when it was SIGTERM that interrupted", () => {
    const report = (signal: "SIGINT" | "SIGTERM") =>
      reportError(new errors.Interrupted("stopped"), { commandId: "deploy", signal, debug: false }).exitCode;
    expect([report("SIGINT"), report("SIGTERM")]).toEqual([130, 143]);
  });

  it("have a page in the help, in both modes", async () => {
    const human = await runCommand(Help, ["exit-codes"]);
    expect(human.stdout).toBe(exitCodePage());
    const json = await runCommand(Help, ["exit-codes", "--json"]);
    expect(JSON.parse(json.stdout)).toMatchObject({ ok: true, result: { exitCodes: exitCodeTable() } });
  });

  it("each have a line on that page", () => {
    for (const code of Object.values(errors.exitCodes))
      expect(exitCodePage()).toMatch(new RegExp(`^ +${code.toString()}  \\S`, "m"));
  });
});

describe("a wrong version of Node", () => {
  it("is refused by a bin that parses everywhere: no syntax newer than Node 14", () => {
    const source = readFileSync(join(packageRoot, "cli/bin/run.js"), "utf8");
    expect(source).not.toMatch(/\?\?=|\|\|=|&&=|^await |static \{|from "node:/m);
  });
});
