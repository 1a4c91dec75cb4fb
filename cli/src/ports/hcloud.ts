/** The API of Hetzner Cloud, as far as gpuctl speaks it by itself; what makes things is Pulumi. */
import type { CloudKind, CloudResource, PriceList, ServerType } from "../domain/cost/cloud.js";

/**
 * One project of the provider. Waits and asks again where the API says so. Throws PreflightRefused when the token is refused,
 * TargetUnreachable when nothing answers, Failed with the code of the API for anything else.
 */
export interface Hcloud {
  serverTypes(): Promise<readonly ServerType[]>;
  prices(): Promise<PriceList>;
  /** @param selector  as the API writes it: `managed-by=gpuctl` */
  list(kind: CloudKind, selector: string): Promise<readonly CloudResource[]>;
  /** Deletes, and waits until it is done. One that is not there any more is fine. */
  remove(kind: CloudKind, id: number): Promise<void>;
}
