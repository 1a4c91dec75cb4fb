import * as hcloud from "@pulumi/hcloud";
import * as pulumi from "@pulumi/pulumi";
import { firewallRules, type FirewallRequest } from "../lib/firewall.js";
import { labels, resourceName, type StackId } from "../lib/names.js";

export interface ServiceFirewallArgs {
  id: StackId;
  request: FirewallRequest;
}

/**
 * Firewall before cloud servers. It sees their public side only: what comes over the private network, and everything of
 * dedicated servers, is up to the host's own rules, which the preparation makes from the same addresses.
 */
export class ServiceFirewall extends pulumi.ComponentResource {
  readonly firewallId: pulumi.Output<number>;

  constructor(name: string, { id, request }: ServiceFirewallArgs, options: pulumi.ComponentResourceOptions) {
    super("gpuctl:ServiceFirewall", name, {}, options);
    const rules = firewallRules(request).map(({ port, ...rule }) => ({ ...rule, ...(port === null ? {} : { port }) }));
    const made = new hcloud.Firewall(name, { name: resourceName(id, "fw"), rules, labels: labels(id) }, { parent: this });
    this.firewallId = made.id.apply(Number);
    this.registerOutputs({ firewallId: this.firewallId });
  }
}
