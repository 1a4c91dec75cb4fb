import { ms } from "../../domain/units.js";
import type { Context } from "../../ports.js";
import { observe } from "./observe.js";
import { reasonOf, step } from "./session.js";

/** An ACME server answers within seconds, or needs somebody's help. */
const patienceOfDeploy = 30_000;
const between = ms(1000);

/** Warns of certificates that are missing as awaitCertificates does, and waits for none: a rollback and a repair bring no new names. */
export const lookForCertificates = (ctx: Context): Promise<void> => awaitCertificates(ctx, 0);

/**
 * Waits a little for the certificates that listeners get by themselves, and warns of those that are still missing. The release is in
 * service by then: nothing that goes wrong here makes a failure of it, and whoever does not want to wait interrupts the waiting alone.
 */
export async function awaitCertificates(ctx: Context, patience = patienceOfDeploy): Promise<void> {
  const { targetSettings } = ctx.config;
  if (targetSettings?.target !== "compose" || targetSettings.tls?.mode !== "acme") return;
  try {
    warnOfMissing(ctx, await stillMissing(ctx, patience));
  } catch (thrown) {
    warnOfMissing(ctx, [`whether HTTPS answers could not be seen: ${reasonOf(thrown)}`]);
  }
}

async function stillMissing(ctx: Context, patience: number): Promise<readonly string[]> {
  const { clock, signal } = ctx;
  const began = clock.monotonic();
  for (let looked = 0; ; looked += 1) {
    const { unencrypted = [] } = await observe(ctx);
    if (unencrypted.length === 0 || signal.aborted || clock.monotonic() - began >= patience) return unencrypted;
    if (looked === 0) step(ctx, `the proxy asks for its certificate: waiting for it, ${patience / 1000} s at most`);
    await clock.sleep(between, signal).catch(() => undefined);
  }
}

/** @param missing  why HTTPS does not answer, a sentence each */
export function warnOfMissing({ progress }: Context, missing: readonly string[] = []): void {
  for (const text of missing) progress.emit({ kind: "warning", text });
}
