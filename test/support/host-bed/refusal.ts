import { expect } from "vitest";
import { values, type BareHost, type BareHostOptions } from "./bare-host.js";

/** A host that the script must not prepare, and what it says then. */
export interface Refusal {
  name: string;
  options?: BareHostOptions;
  /** Run on the host before, by bash. */
  before?: string;
  /** Values other than the usual ones. */
  changes?: Readonly<Record<string, string | null>>;
  reason: RegExp;
  next: RegExp;
}

/** On a new disk: ends with 3, reason and next step, and changes nothing. */
export async function expectRefused(box: BareHost, { options, before, changes = {}, reason, next }: Refusal): Promise<void> {
  await box.fresh(options);
  if (before !== undefined) await box.host.must(["bash", "-c", before]);
  const found = await stateOf(box);
  const { code, stdout } = await box.prepare(values(changes));
  expect(code, stdout).toBe(3);
  expect(box.result()).toMatchObject({ state: "refused" });
  expect(box.result().reason).toMatch(reason);
  expect(box.result().nextStep).toMatch(next);
  expect(await stateOf(box)).toBe(found);
}

const stateOf = async (box: BareHost): Promise<string> =>
  (
    await box.ssh(
      "find /etc /usr /home -xdev -type f -printf '%p %T@\\n' | sort; cat /var/lib/dpkg/status | sha256sum; iptables -S; id ops",
    )
  ).stdout;
