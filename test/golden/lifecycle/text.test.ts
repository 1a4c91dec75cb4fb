import { expect, test } from "vitest";
import { audit } from "../../../cli/src/app/audit.js";
import { diff } from "../../../cli/src/app/diff.js";
import { lockStatus } from "../../../cli/src/app/lock-status.js";
import { releases } from "../../../cli/src/app/releases.js";
import { status } from "../../../cli/src/app/status.js";
import { deployText, repairText, rollbackText } from "../../../cli/src/app/render/deploy-text.js";
import { auditText, diffText, lockText, releasesText } from "../../../cli/src/app/render/history-text.js";
import { planText } from "../../../cli/src/app/render/plan-text.js";
import { healthText, statusText } from "../../../cli/src/app/render/status-text.js";
import { systemdUnit } from "../../../cli/src/app/render/unit.js";
import { ms } from "../../../cli/src/domain/units.js";
import { Environment } from "../../fakes/environment.js";
import { failureOf, runDeploy, runPlan, runRepair, runRollback } from "../../support/lifecycle.js";

const golden = (name: string): string => `./${name}.txt`;

async function upgraded(): Promise<Environment> {
  const environment = new Environment();
  await runDeploy(environment);
  environment.set("embedder", "GPUCTL_MAX_BATCH_TOKENS", "4096");
  await runDeploy(environment);
  return environment;
}

test("plan of a first deploy", async () => {
  await expect(planText(await runPlan(new Environment()))).toMatchFileSnapshot(golden("plan-first"));
});

test("plan of a new model, with its reasons", async () => {
  const environment = await upgraded();
  environment.service("embedder").model = "large";
  environment.service("embedder").secrets = { API_KEYS: { env: "KEYS" } };
  environment.secrets.values.set("KEYS", "not shown");
  delete environment.config.services.reranker;
  await expect(planText(await runPlan(environment))).toMatchFileSnapshot(golden("plan-new-model"));
});

test.each([
  ["stop-first", 1800],
  ["refused", 1500],
] as const)("plan when both do not fit: %s", async (name, memoryMiB) => {
  const environment = new Environment();
  await runDeploy(environment);
  environment.machine.memoryMiB = memoryMiB;
  environment.code.wheel = "wheel-two";
  await expect(planText(await runPlan(environment))).toMatchFileSnapshot(golden(`plan-${name}`));
});

test("plan of an environment that has drifted", async () => {
  const environment = await upgraded();
  environment.machine.kill(environment.machine.writer ?? "");
  await expect(planText(await runPlan(environment))).toMatchFileSnapshot(golden("plan-drift"));
});

test("plan with nothing to do", async () => {
  await expect(planText(await runPlan(await upgraded()))).toMatchFileSnapshot(golden("plan-empty"));
});

test("a deploy, a rollback and a repair", async () => {
  const environment = new Environment();
  const first = deployText(await runDeploy(environment));
  const nothing = deployText(await runDeploy(environment));
  environment.code.wheel = "wheel-two";
  const second = deployText(await runDeploy(environment));
  const back = rollbackText(await runRollback(environment));
  environment.machine.reboot();
  const repaired = repairText(await runRepair(environment));
  const text = [first, nothing, second, back, repaired, repairText(await runRepair(environment))].join("\n\n----\n\n");
  await expect(text).toMatchFileSnapshot(golden("deploy-rollback-repair"));
});

test("status of a healthy environment", async () => {
  await expect(statusText(await status((await upgraded()).cli().ctx))).toMatchFileSnapshot(golden("status-healthy"));
});

test("status after a reboot", async () => {
  const environment = await upgraded();
  environment.machine.reboot();
  environment.releases.damaged = [{ file: "r9-00000000.json", because: "its checksum does not match" }];
  await expect(statusText(await status(environment.cli().ctx))).toMatchFileSnapshot(golden("status-reboot"));
});

test("status of a service that stands in for its GPU sends to its log, not to repair", async () => {
  const report = await status((await upgraded()).cli().ctx);
  const [first, ...others] = report.services;
  const degraded = { ...first!, status: "degraded" as const, reason: "the GPU is gone" };
  const text = statusText({ ...report, services: [degraded, ...others], problems: ["embedder says degraded"], healthy: false });
  expect(text).toMatch(/Next: gpuctl logs embedder shows what happened/);
  expect(text).not.toContain("repair");
  expect(statusText({ ...report, services: [degraded], problems: ["embedder says degraded", "index does not run"], healthy: false })).toContain("gpuctl repair");
});

test("status of nothing", async () => {
  await expect(statusText(await status(new Environment().cli().ctx))).toMatchFileSnapshot(golden("status-nothing"));
});

test("health", async () => {
  const services = [
    { service: "embedder", status: "healthy", device: "cpu", model: "models/small", fallback: false, reason: null, elapsedMs: 4 },
    {
      service: "reranker",
      status: "degraded",
      device: "cpu",
      model: "models/small",
      fallback: true,
      reason: "the engine's process died: it was killed by SIGKILL",
      elapsedMs: 5,
    },
    {
      service: "index",
      status: "unreachable",
      device: null,
      model: null,
      fallback: false,
      reason: "connection refused",
      elapsedMs: 1,
    },
  ] as const;
  const report = { environment: "local", healthy: false, services: services.map((one) => ({ ...one, address: "http://127.0.0.1:8001" })) };
  await expect(healthText(report)).toMatchFileSnapshot(golden("health"));
});

test("releases, diff, audit and lease", async () => {
  const environment = await upgraded();
  environment.set("embedder", "FAULT", "nan");
  await failureOf(runDeploy(environment));
  const { ctx } = environment.cli();
  const texts = [
    releasesText(await releases(ctx)),
    diffText(await diff(ctx, { from: "r1", to: "2" })),
    diffText(await diff(ctx, { from: "r1", to: "r1" })),
    auditText(await audit(ctx, { last: 10 })),
    lockText(await lockStatus(ctx)),
  ];
  await environment.leases.of(() => true).acquire("deploy", ms(0), ctx.signal);
  texts.push(lockText(await lockStatus(ctx)));
  await expect(texts.join("\n\n----\n\n")).toMatchFileSnapshot(golden("history"));
});

test("the unit for systemd", async () => {
  const facts = { project: "demo", environment: "local", node: "/usr/bin/node", program: "/opt/gpuctl/cli/bin/run.js" };
  await expect(systemdUnit({ ...facts, projectFile: "/home/ada/my $project 100%/gpuctl.yaml" })).toMatchFileSnapshot(golden("unit"));
});
