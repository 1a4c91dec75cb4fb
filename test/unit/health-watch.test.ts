import { describe, expect, test } from "vitest";
import Health from "../../cli/src/commands/health.js";
import { TargetUnreachable } from "../../cli/src/domain/errors.js";
import type { Device } from "../../cli/src/domain/names.js";
import type { Context, HttpResponse } from "../../cli/src/ports.js";
import { Environment } from "../fakes/environment.js";
import { runDeploy } from "../support/lifecycle.js";
import { runCommand, type RunResult } from "../support/run-command.js";

type Said = Readonly<Record<string, unknown>> | "nothing";

const well = { status: "healthy", device: "cuda", model: "small", reason: null };
const slow = { status: "degraded", device: "cpu", model: "small", reason: "the GPU is lost" };

/** An embedder that says one thing after the other; Ctrl-C comes when it has said all. */
async function watched(
  said: readonly Said[],
  argv: readonly string[],
  { terminal = false, proven }: { terminal?: boolean; proven?: Device } = {},
): Promise<RunResult> {
  const environment = new Environment(["embedder"]);
  await runDeploy(environment);
  if (proven !== undefined) await prove(environment, proven);
  const { ctx, abort } = environment.cli();
  let next = 0;
  const request = (): Promise<HttpResponse> => {
    const answer = said[next++];
    if (answer === undefined) {
      abort.abort();
      return Promise.reject(new Error("aborted"));
    }
    if (answer === "nothing") return Promise.reject(new TargetUnreachable("nobody", { because: "connection refused" }));
    return Promise.resolve({ status: 200, headers: {}, body: answer });
  };
  const context: Context = { ...ctx, http: { request } };
  return runCommand(Health, argv, {
    prepare: (command) => {
      Object.assign(command, { context: () => Promise.resolve(context) });
      command.io = { ...command.io, stdoutIsTTY: terminal };
    },
  });
}

/** As if the deploy had seen the embedder on a device. */
async function prove({ releases }: Environment, device: Device): Promise<void> {
  const [record] = (await releases.list()).records;
  const embedder = record?.services.embedder;
  if (record === undefined || embedder === undefined) throw new Error("nothing was deployed");
  await releases.update({ ...record, services: { embedder: { ...embedder, proof: { device, level: "process" } } } });
}

test("a CPU instance that stands in says that it is well; that is not what was deployed", async () => {
  const standIn = { ...well, device: "cpu" };
  const degraded = await watched([standIn], ["--watch"], { proven: "cuda" });
  expect(degraded.stdout).toContain(
    "degraded on cpu at http://127.0.0.1:8001: the CPU answers, where cuda was proven by the deploy",
  );
  expect(degraded.exitCode).toBe(1);
  expect((await watched([standIn], ["--watch"], { proven: "cpu" })).exitCode).toBe(0);
  expect((await watched([well], ["--watch"], { proven: "cpu" })).exitCode).toBe(0);
});

describe("gpuctl health --watch", () => {
  test("prints a line for each change and ends as the last look was", async () => {
    const ran = await watched([well, well, slow, slow, "nothing", well], ["--watch"]);
    const lines = ran.stdout.trimEnd().split("\n");
    expect(lines.map((line) => line.replace(/^\S+Z /, ""))).toEqual([
      "embedder healthy on cuda at http://127.0.0.1:8001",
      "embedder degraded on cpu at http://127.0.0.1:8001: the GPU is lost",
      "embedder unreachable at http://127.0.0.1:8001: connection refused",
      "embedder healthy on cuda at http://127.0.0.1:8001",
    ]);
    expect(ran.exitCode).toBe(0);
  });

  test("ends with 1 when the last look was a bad one", async () => {
    expect((await watched([well, slow], ["-w"])).exitCode).toBe(1);
  });

  test("prints an object a line under --json, and nothing else", async () => {
    const ran = await watched([well, slow], ["--watch", "--json"]);
    const lines = ran.stdout.trimEnd().split("\n");
    expect(lines.map((line) => (JSON.parse(line) as { status: string }).status)).toEqual(["healthy", "degraded"]);
    expect(JSON.parse(lines[0] ?? "")).toMatchObject({ service: "embedder", device: "cuda", at: expect.any(String) as string });
  });

  test("keeps one table current on a terminal", async () => {
    const ran = await watched([well, slow], ["--watch"], { terminal: true });
    const [first = "", second = ""] = ran.stdout.split(/\u001b\[\d+A\u001b\[J/);
    expect(first).toMatch(/healthy[^]*cuda/);
    expect(second).toMatch(/degraded[^]*the GPU is lost/);
    const up = Number(/\u001b\[(\d+)A/.exec(ran.stdout)?.[1]);
    expect(up).toBe(first.split("\n").length - 1);
  });

  test("refuses a time that is none, and --every without --watch", async () => {
    expect(await watched([well], ["--watch", "--every", "soon"])).toMatchObject({ exitCode: 2 });
    expect(await watched([well], ["--every", "1s"])).toMatchObject({ exitCode: 2 });
  });
});
