import { TargetUnreachable } from "../../../domain/errors.js";
import type { InstanceId } from "../../../domain/names.js";
import { ms } from "../../../domain/units.js";
import type { InstanceHealth, TargetDriver } from "../../../ports.js";
import { healthOf, notRunning } from "../process/instance-health.js";

/** What an instance says of itself; one that cannot be asked yet is loading. Throws Failed, with its last words, for one that has ended. */
export async function containerHealth(
  driver: Pick<TargetDriver, "request" | "observe" | "logTail">,
  id: InstanceId,
): Promise<InstanceHealth> {
  try {
    return healthOf(await driver.request(id, { method: "GET", path: "/health", timeout: ms(5000) }));
  } catch (error) {
    if (!(error instanceof TargetUnreachable)) throw error;
    const found = (await driver.observe()).instances.find((each) => each.id === id)?.process ?? null;
    if (found?.state !== "running") throw notRunning(id, found, await driver.logTail(id, 20));
    return { status: "loading", device: null, model: null, fallback: false, reason: error.because ?? null };
  }
}
