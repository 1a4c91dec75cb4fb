import { expect } from "vitest";
import { deploy, type DeployResult } from "../../cli/src/app/deploy.js";
import { plan, type PlanReport } from "../../cli/src/app/plan.js";
import { repair } from "../../cli/src/app/repair.js";
import { rollback, type RollbackResult } from "../../cli/src/app/rollback.js";
import { instanceOf } from "../../cli/src/domain/drift.js";
import { GpuctlError } from "../../cli/src/domain/errors.js";
import { inOrder } from "../../cli/src/domain/fingerprint.js";
import { currentRelease } from "../../cli/src/domain/history.js";
import type { ReleaseRecord } from "../../cli/src/domain/release.js";
import { ms } from "../../cli/src/domain/units.js";
import type { Environment } from "../fakes/environment.js";

const noWait = ms(0);

export const runDeploy = (environment: Environment, service?: string): Promise<DeployResult> =>
  deploy(environment.cli().ctx, { service, lockWait: noWait });

export const runRollback = (environment: Environment, request: { service?: string; to?: string } = {}): Promise<RollbackResult> =>
  rollback(environment.cli().ctx, { service: request.service, to: request.to, lockWait: noWait });

export const runPlan = (environment: Environment, service?: string): Promise<PlanReport> =>
  plan(environment.cli().ctx, { service });

export const runRepair = (environment: Environment): ReturnType<typeof repair> =>
  repair(environment.cli().ctx, { lockWait: noWait });

/** The error a promise ends with; a success or a bug fails the test. */
export async function failureOf(work: Promise<unknown>): Promise<GpuctlError> {
  const outcome = await work.then(
    (value) => ({ value }),
    (thrown: unknown) => ({ thrown }),
  );
  if ("value" in outcome) throw new Error(`expected a failure, got ${JSON.stringify(outcome.value)}`);
  if (!(outcome.thrown instanceof GpuctlError)) throw outcome.thrown;
  return outcome.thrown;
}

/** The release whose record says that it should serve. */
export function current(environment: Environment): ReleaseRecord | null {
  return currentRelease([...environment.releases.records.values()]);
}

/** Instance ids of a release, sorted. */
export function instancesOf(record: ReleaseRecord | null): readonly string[] {
  return inOrder(record?.services ?? {})
    .map(([, service]) => instanceOf(service))
    .sort();
}

/** The promise of the product: exactly one release serves, it is the recorded one, and its index writes. */
export function expectExactlyOneServes(environment: Environment): void {
  const record = current(environment);
  expect(environment.machine.serving()).toEqual(instancesOf(record));
  const index = record?.services.index;
  if (index !== undefined) expect(environment.machine.writer).toBe(instanceOf(index));
}

/** Nothing unfinished is left: no dangling record, no lease, nothing to plan. */
export async function expectAtRest(environment: Environment): Promise<void> {
  expectExactlyOneServes(environment);
  expect([...environment.releases.records.values()].filter(({ state }) => state === "candidate" || state === "switched")).toEqual(
    [],
  );
  expect((await environment.leases.of(() => true).holder())?.state).not.toBe("live");
  expect(await runPlan(environment)).toMatchObject({ empty: true });
}
