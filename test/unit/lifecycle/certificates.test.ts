import { expect, test } from "vitest";
import { deploy, type DeployResult } from "../../../cli/src/app/deploy.js";
import { statusText } from "../../../cli/src/app/render/status-text.js";
import { repair } from "../../../cli/src/app/repair.js";
import { rollback } from "../../../cli/src/app/rollback.js";
import { status } from "../../../cli/src/app/status.js";
import { Failed } from "../../../cli/src/domain/errors.js";
import { ms } from "../../../cli/src/domain/units.js";
import type { Context } from "../../../cli/src/ports.js";
import { Environment, type Cli } from "../../fakes/environment.js";

const missing = "the proxy of one has no certificate for a.example.net yet, so HTTPS does not answer there";

function withAcme(environment: Environment): Cli & { ctx: Context } {
  const cli = environment.cli();
  const tls = { mode: "acme", domain: "a.example.net" } as const;
  const targetSettings = { target: "compose", nodes: { one: { host: "10.0.0.5" } }, tls } as const;
  return { ...cli, ctx: { ...cli.ctx, config: { ...cli.ctx.config, targetSettings } } };
}

const deployed = ({ ctx }: Cli): Promise<DeployResult> => deploy(ctx, { service: undefined, lockWait: ms(0) });
const warnings = ({ events }: Cli): readonly string[] =>
  events.flatMap((event) => (event.kind === "warning" ? [event.text] : []));

test("a deploy whose proxy does not get its certificate is good, and says that HTTPS does not answer, as status does", async () => {
  const environment = new Environment(["embedder"]);
  environment.machine.unencrypted = () => [missing];
  const cli = withAcme(environment);
  const { outcome, elapsedMs } = await deployed(cli);
  expect(outcome).toBe("deployed");
  expect(warnings(cli)).toEqual([missing]);
  expect(elapsedMs).toBeGreaterThan(30_000);
  const report = await status(withAcme(environment).ctx);
  expect(report).toMatchObject({ healthy: false, problems: [missing] });
  expect(statusText(report)).toMatch(/\n {2}the proxy of one has no certificate[^]*\nNext: see that the ACME server/);
  const again = withAcme(environment);
  expect((await deployed(again)).outcome).toBe("nothing-to-do");
  expect(warnings(again)).toEqual([missing]);
});

test("a rollback and a repair say that HTTPS does not answer, and wait for nothing", async () => {
  const environment = new Environment(["embedder"]);
  await deployed(withAcme(environment));
  environment.set("embedder", "GPUCTL_THREADS", "2");
  await deployed(withAcme(environment));
  environment.machine.unencrypted = () => [missing];
  const back = withAcme(environment);
  const began = environment.clock.monotonic();
  await rollback(back.ctx, { service: undefined, to: undefined, lockWait: ms(0) });
  expect(warnings(back)).toEqual([missing]);
  const mended = withAcme(environment);
  await repair(mended.ctx, { lockWait: ms(0) });
  expect(warnings(mended)).toEqual([missing]);
  for (const { events } of [back, mended]) expect(JSON.stringify(events)).not.toContain("waiting for it");
  expect(environment.clock.monotonic() - began).toBeLessThan(30_000);
});

test("whether it answers that cannot be seen any more takes nothing from a rollback that went well", async () => {
  const environment = new Environment(["embedder"]);
  await deployed(withAcme(environment));
  environment.set("embedder", "GPUCTL_THREADS", "2");
  await deployed(withAcme(environment));
  const back = withAcme(environment);
  const [first] = environment.releases.records.keys();
  environment.machine.unencrypted = () => {
    if (back.events.some((event) => event.kind === "phase" && event.phase === "prune" && event.state === "end"))
      throw new Failed("the host is silent");
    return [];
  };
  const { rollbackOf } = await rollback(back.ctx, { service: undefined, to: undefined, lockWait: ms(0) });
  expect(rollbackOf).toBe(first);
  expect(warnings(back)).toEqual(["whether HTTPS answers could not be seen: the host is silent"]);
});

test("one that comes meanwhile is waited for", async () => {
  const environment = new Environment(["embedder"]);
  let looks = 0;
  environment.machine.unencrypted = () => (environment.machine.serving().length > 0 && (looks += 1) > 9 ? [] : [missing]);
  const cli = withAcme(environment);
  await deployed(cli);
  expect(warnings(cli)).toEqual([]);
  expect(cli.events).toContainEqual({ kind: "step", text: "the proxy asks for its certificate: waiting for it, 30 s at most" });
});

test("whoever does not want to wait interrupts the waiting and not the deploy", async () => {
  const environment = new Environment(["embedder"]);
  environment.machine.unencrypted = () => [missing];
  const cli = withAcme(environment);
  const emit = (event: Cli["events"][number]): void => {
    cli.events.push(event);
    if (event.kind === "step" && event.text.includes("waiting for it")) cli.abort.abort();
  };
  const { outcome, elapsedMs } = await deploy({ ...cli.ctx, progress: { emit } }, { service: undefined, lockWait: ms(0) });
  expect([outcome, warnings(cli)]).toEqual(["deployed", [missing]]);
  expect(elapsedMs).toBeLessThan(30_000);
});
