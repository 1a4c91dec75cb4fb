import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { packageRoot } from "../support/run-command.js";

const heavy = /node_modules\/(yaml|zod|undici|ssh2|node-ssh|listr2|@pulumi|typescript)\//;

interface Start {
  status: number | null;
  stdout: string;
  stderr: string;
  loaded: readonly string[];
  connections: readonly string[];
}

/** The built bin in a process of its own, watched from before its first import. */
function start(...args: string[]): Start {
  const scratch = mkdtempSync(join(tmpdir(), "gpuctl-start-"));
  try {
    const record = join(scratch, "record.json");
    const hook = join(packageRoot, "test/support/record-imports.mjs");
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      ["--import", hook, join(packageRoot, "cli/bin/run.js"), ...args],
      {
        encoding: "utf8",
        cwd: scratch,
        env: { PATH: process.env["PATH"], HOME: scratch, RECORD_IMPORTS_TO: record },
      },
    );
    const { loaded, connections } = JSON.parse(readFileSync(record, "utf8")) as Pick<Start, "loaded" | "connections">;
    return { status, stdout, stderr, loaded, connections };
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

describe("what the bin loads", () => {
  it.each([["--version"], ["-v"], ["--help"], ["-h"], ["help"], []])("is nothing but itself for `gpuctl %s`", (...args) => {
    const run = start(...args);
    expect(run.status).toBe(0);
    expect(run.loaded.filter((url) => !url.startsWith("node:"))).toEqual([expect.stringMatching(/cli\/bin\/run\.js$/)]);
  });

  it.each([
    ["help of a command", ["deploy", "--help"]],
    ["help of a topic", ["index", "--help"]],
    ["help by the help command", ["help", "deploy"]],
    ["the page of exit codes", ["help", "exit-codes"]],
  ])("has no schema, YAML, HTTP, SSH or cloud package for %s", (_what, args) => {
    const run = start(...args);
    expect(run.stderr).toBe("");
    expect(run.status).toBe(0);
    expect(run.loaded.filter((url) => heavy.test(url))).toEqual([]);
  });

  it("does not include a command's code for its help: the manifest knows it", () => {
    expect(start("deploy", "--help").loaded.filter((url) => url.includes("/dist/commands/"))).toEqual([]);
  });

  it("does not include the package framework's test or type tools", () => {
    expect(start("deploy", "--help").loaded.filter((url) => /node_modules\/(ts-node|tsx|esbuild)\//.test(url))).toEqual([]);
  });
});

describe("--json without a command", () => {
  it.each([[["--json"]], [["--help", "--json"]], [["--version", "--json"]], [["deploy", "--help", "--json"]]])(
    "prints exactly one document for `gpuctl %s`",
    (args) => {
      const run = start(...args);
      expect(run.status).toBe(0);
      expect(JSON.parse(run.stdout)).toMatchObject({ schemaVersion: 1, ok: true, warnings: [] });
    },
  );
});

describe("privacy", () => {
  it.each([[["--version"]], [["--help"]], [["deploy", "--help"]], [["help", "exit-codes"]], [["no-such-command"]]])(
    "opens no socket and asks no name server for `gpuctl %s`",
    (args) => {
      expect(start(...args).connections).toEqual([]);
    },
  );
});

describe("a Node that is too old", () => {
  it("is refused in one sentence that says what to do, before anything else happens", () => {
    const pretend = `Object.defineProperty(process, "versions", { value: { ...process.versions, node: "20.20.2" } });`;
    const args = [
      "--import",
      `data:text/javascript,${encodeURIComponent(pretend)}`,
      join(packageRoot, "cli/bin/run.js"),
      "status",
    ];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
    expect(status).not.toBe(0);
    expect(stdout).toBe("");
    expect(stderr).toMatch(/^gpuctl needs Node 22\.19 or newer and this is Node 20\.20\.2: install Node 24 .*\n$/);
  });
});
