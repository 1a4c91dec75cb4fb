import { expect, test } from "vitest";
import { deploy, type DeployResult } from "../../../cli/src/app/deploy.js";
import { statusText } from "../../../cli/src/app/render/status-text.js";
import { status } from "../../../cli/src/app/status.js";
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
