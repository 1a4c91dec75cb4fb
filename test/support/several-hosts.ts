/** Three hosts of memory that are deployed to, and what is seen of them afterwards. */
import { continueDeploy } from "../../cli/src/app/continue.js";
import { deploy } from "../../cli/src/app/deploy.js";
import { repair } from "../../cli/src/app/repair.js";
import { status, type StatusReport } from "../../cli/src/app/status.js";
import type { ComposeSettings } from "../../cli/src/domain/compose/node-settings.js";
import { ms } from "../../cli/src/domain/units.js";
import { HostsEnvironment } from "../fakes/hosts-environment.js";
import { until } from "./until.js";

export const names = ["one", "two", "three"];
export const noWait = ms(0);
const request = { service: undefined, lockWait: noWait };
export type Choice = Parameters<HostsEnvironment["ctx"]>[0];

export const runDeploy = (environment: HostsEnvironment, choice?: Choice) => deploy(environment.ctx(choice), request);
export const runContinue = (environment: HostsEnvironment) => continueDeploy(environment.ctx(), { lockWait: noWait });
export const runRepair = (environment: HostsEnvironment, choice?: Choice) =>
  repair(environment.ctx(choice), { lockWait: noWait });

/** Three hosts that serve a first release, and a project file that asks for another. */
export async function upgrading(): Promise<{ environment: HostsEnvironment; first: string }> {
  const environment = new HostsEnvironment(names);
  const { release } = await runDeploy(environment);
  environment.base.code.wheel = "wheel-two";
  environment.trace.length = 0;
  return { environment, first: release ?? "" };
}

export const served = (environment: HostsEnvironment): Record<string, readonly string[]> =>
  Object.fromEntries(names.map((name) => [name, environment.serving(name)]));
export const everywhere = (release: string | null | undefined): Record<string, readonly string[]> =>
  Object.fromEntries(names.map((name) => [name, [release ?? "nothing"]]));
export const hostsOf = (failure: { data: Record<string, unknown> | undefined }) =>
  (failure.data?.["hosts"] as { node: string; before: string; now: string | null; state: string }[]).map(
    ({ node, now, state }) => [node, now, state],
  );
/** Hosts in the order in which traffic was moved to a release. */
export const opened = ({ trace }: HostsEnvironment): readonly string[] =>
  trace.filter((line) => line.startsWith("> open")).map((line) => line.split(" ")[2] ?? "");

/** With the hosts as gpuctl.yaml has them. */
export function statusOfHosts(environment: HostsEnvironment): Promise<StatusReport> {
  const ctx = environment.ctx();
  const nodes = Object.fromEntries(names.map((name) => [name, { host: name }]));
  const targetSettings = { target: "compose", nodes } as unknown as ComposeSettings;
  return status({ ...ctx, config: { ...ctx.config, target: "compose", targetSettings } });
}

/** A deploy whose process is killed when it is about to open its n-th host. */
export async function killedAt(environment: HostsEnvironment, count: number): Promise<void> {
  environment.killsAtOpen = count;
  void runDeploy(environment);
  await until(() => environment.base.leases.holder?.alive() === false, "the deploy was killed");
  environment.killsAtOpen = null;
  environment.trace.length = 0;
}
