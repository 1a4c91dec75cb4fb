import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Redaction } from "../../../cli/src/domain/redaction.js";
import { ModelLock } from "../../../cli/src/adapters/models/model-lock.js";
import { doctor } from "../../../cli/src/app/doctor.js";
import type { EnvironmentConfig } from "../../../cli/src/domain/config/resolved.js";
import { createDoctor } from "../../../cli/src/wiring/doctor.js";
import { projectConfig } from "../../support/project-config.js";
import { temporaryDirectories } from "../../support/temporary.js";
import { factsOf } from "./captures.js";

const temporary = temporaryDirectories();
const hash = "a".repeat(64);
const signal = new AbortController().signal;

function environment(directory: string, images: { services?: string }): EnvironmentConfig {
  return {
    ...projectConfig(directory),
    target: "compose",
    targetSettings: { target: "compose", nodes: { "gpu-1": { host: "10.0.0.5" } }, images },
  };
}

async function projectOf(config: EnvironmentConfig, directory: string) {
  const progress = { emit: () => undefined };
  const request = {
    env: { HOME: directory },
    progress,
    signal,
    gpuctlVersion: "0.0.0",
    packageRoot: directory,
    redaction: new Redaction(),
  };
  const tools = await createDoctor(request);
  return { host: tools.host, project: await tools.forProject(config), close: tools.close };
}

test("doctor tries the image that deploys use: that of gpuctl.yaml, else the one for GPUs in gpuctl.lock.json", async () => {
  const directory = temporary();
  const named = async (images: { services?: string }): Promise<unknown> => {
    const { project, close } = await projectOf(environment(directory, images), directory);
    await close();
    return project.gpuImage?.();
  };
  expect(await named({})).toBeNull();
  const lock = new ModelLock(join(directory, "gpuctl.yaml"));
  await lock.writeImage("services-cpu", { ref: "acme/services:cpu", digest: `sha256:${"c".repeat(64)}`, contents: hash });
  await lock.writeImage("services-cuda", { ref: "acme/services:cuda", digest: `sha256:${hash}`, contents: hash });
  expect(await named({})).toBe(`acme/services@sha256:${hash}`);
  expect(await named({ services: "acme/own:1" })).toBe("acme/own:1");
});

test("doctor asks the hosts of a project what they lack, and no host that gives it no root", async () => {
  const directory = temporary();
  const { project, close } = await projectOf(environment(directory, {}), directory);
  const facts = { ...factsOf("t4-ubuntu"), access: factsOf("no-rights").access };
  expect(await project.loads?.of("gpu-1", { devices: ["cuda"], models: [] }, facts)).toBeNull();
  await close();
});

test("a lock that cannot be read does not keep the nodes from being looked at", async () => {
  const directory = temporary();
  writeFileSync(join(directory, "gpuctl.lock.json"), "<<<<<<< HEAD\n");
  const { host, project, close } = await projectOf(environment(directory, {}), directory);
  const nodes = { inspect: async () => factsOf("t4-ubuntu") } as never;
  const report = await doctor({ host, signal, project: { ...project, nodes } });
  await close();
  expect(report.nodes.map(({ node, facts }) => [node, facts !== null])).toEqual([["gpu-1", true]]);
});
