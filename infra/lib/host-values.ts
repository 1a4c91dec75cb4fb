import type { HostValues } from "../../cli/src/domain/host/values.js";
import { adoptedPrivateAddress } from "./inventory.js";
import type { CheckedStack } from "./stack-config.js";
import type { NodeConfig } from "./stack-schema.js";

/** What the preparation script of one host is told. Services answer the app and the other hosts of the stack, one of which may be the ingress. */
export function hostValues(checked: CheckedStack, name: string, node: NodeConfig): HostValues {
  const { config } = checked;
  const peers = Object.entries(config.nodes)
    .filter(([other]) => other !== name)
    .flatMap(([other, peer]) => privateAddressOf(checked, other, peer) ?? []);
  const callers = [...config.app, ...peers];
  return {
    gpu: node.kind === "adopted" && node.gpu !== null ? "require" : "none",
    deployUser: config.deployUser,
    authorizedKeys: config.operators.keys,
    servicePorts: config.servicePorts,
    // With nobody named, nobody comes: an empty list would leave the ports to everybody.
    appAddresses: callers.length > 0 ? callers : "nobody",
    // A cloud server's public side is guarded by the provider's firewall, which changes without a login. A list on the host itself would
    // be changed by SSH, from an address that the old list keeps out: nobody would come in again. An empty one takes back what a server
    // was told before. The price: the private network reaches SSH there, which takes keys only.
    sshAddresses: node.kind === "hcloud" ? [] : config.operators.addresses,
    // A restart is the program's to make: whoever waits for the host has to be told before it begins.
    reboot: false,
    revision: config.revision,
    // A mirror that is no longer in the configuration is taken back, and not left out: what is left out stays.
    repositories: Object.fromEntries(Object.entries(config.mirrors).map(([mirror, base]) => [mirror, base ?? ""])),
  };
}

/** On the private network; null for a host that is on none. */
export function privateAddressOf({ plan }: CheckedStack, name: string, node: NodeConfig): string | null {
  return node.kind === "adopted" ? adoptedPrivateAddress(node) : (plan?.addresses[name] ?? null);
}
