import * as hcloud from "@pulumi/hcloud";
import * as pulumi from "@pulumi/pulumi";
import type { AddressPlan } from "../lib/address-plan.js";
import { labels, resourceName, type StackId } from "../lib/names.js";
import type { StackConfig } from "../lib/stack-schema.js";

export interface PrivateNetworkArgs {
  id: StackId;
  network: NonNullable<StackConfig["network"]>;
  plan: AddressPlan;
}

/** Network of cloud servers, with the subnet behind a vSwitch where dedicated servers are to be part of it. */
export class PrivateNetwork extends pulumi.ComponentResource {
  /** Subnet of cloud servers; whoever is in it has to go before it does. */
  readonly cloud: hcloud.NetworkSubnet;
  readonly vswitch: hcloud.NetworkSubnet | undefined;

  constructor(name: string, { id, network, plan }: PrivateNetworkArgs, options: pulumi.ComponentResourceOptions) {
    super("gpuctl:PrivateNetwork", name, {}, options);
    const made = new hcloud.Network(
      name,
      {
        name: resourceName(id, "net"),
        ipRange: plan.range,
        exposeRoutesToVswitch: network.vswitch !== null,
        labels: labels(id),
      },
      { parent: this },
    );
    const networkId = made.id.apply(Number);
    this.cloud = new hcloud.NetworkSubnet(
      `${name}-cloud`,
      { networkId, type: "cloud", networkZone: network.zone, ipRange: plan.cloud },
      { parent: this, deleteBeforeReplace: true },
    );
    this.vswitch =
      network.vswitch === null || plan.vswitch === null
        ? undefined
        : new hcloud.NetworkSubnet(
            `${name}-vswitch`,
            { networkId, type: "vswitch", networkZone: network.zone, ipRange: plan.vswitch, vswitchId: network.vswitch.id },
            // Two changes of one network at a time are refused by the API.
            { parent: this, deleteBeforeReplace: true, dependsOn: [this.cloud] },
          );
    this.registerOutputs({ networkId: made.id });
  }
}
