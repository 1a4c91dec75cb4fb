import * as command from "@pulumi/command";
import * as hcloud from "@pulumi/hcloud";
import * as k8s from "@pulumi/kubernetes";
import * as pulumi from "@pulumi/pulumi";
import type { Inventory, InventoryNode } from "../cli/src/domain/inventory.js";
import { AdoptedHost } from "./components/adopted-host.js";
import { GpuNodePool, type Agent } from "./components/gpu-node-pool.js";
import { GpuRuntime } from "./components/gpu-runtime.js";
import { HcloudHost } from "./components/hcloud-host.js";
import { PrivateNetwork } from "./components/private-network.js";
import { ServiceFirewall } from "./components/service-firewall.js";
import type { HostValues } from "../cli/src/domain/host/values.js";
import { hostValues, privateAddressOf } from "./lib/host-values.js";
import { buildInventory, inventoryNode, type PreparedHost } from "./lib/inventory.js";
import { labels, resourceName, type StackId } from "./lib/names.js";
import { makeUnusableKey } from "./lib/one-time-key.js";
import { hcloudNodes, type CheckedStack } from "./lib/stack-config.js";
import type { AdoptedNode, ClusterConfig, NodeConfig } from "./lib/stack-schema.js";
import { hostScript } from "./scripts.js";

/** What stands in the stack's configuration besides the structure that was checked. */
export interface StackSecrets {
  /** `gpuctl:sshPrivateKey`; without it the keys of ssh-agent are used. */
  privateKey: pulumi.Output<string> | undefined;
  /** `gpuctl:k3sToken`. */
  k3sToken: pulumi.Output<string> | undefined;
  /** `gpuctl:kubeconfig`; without it the file that kubectl would take. */
  kubeconfig: pulumi.Output<string> | undefined;
}

/** Settings of the provider itself, as it reads them from `hcloud:`. */
export interface HcloudSettings {
  token: pulumi.Output<string> | undefined;
  endpoint: string | undefined;
  pollInterval: string | undefined;
}

interface Site {
  id: StackId;
  checked: CheckedStack;
  secrets: StackSecrets;
  cloud: Cloud | null;
}

/** What all cloud servers of a stack share. */
interface Cloud {
  provider: hcloud.Provider;
  network: PrivateNetwork;
  firewall: ServiceFirewall;
  sshKey: hcloud.SshKey | null;
}

interface MadeHost {
  prepared: pulumi.Output<PreparedHost>;
  reach: Agent["reach"];
  ready: pulumi.Resource;
}

/** Makes everything that a configuration names; the result is the stack's output. */
export function makeStack(
  stack: string,
  checked: CheckedStack,
  secrets: StackSecrets,
  settings: HcloudSettings,
): pulumi.Output<Inventory> {
  const { config } = checked;
  const id = { project: config.project, stack };
  const site: Site = { id, checked, secrets, cloud: makeCloud(id, checked, settings) };
  const hosts = Object.entries(config.nodes).map(([name, node]) => ({ name, node, made: makeHost(site, name, node) }));
  if (config.cluster !== null) makeCluster(site, config.cluster, hosts);
  const script = hostScript().sha256;
  const nodes = pulumi.all(hosts.map(({ made }) => made.prepared)).apply((prepared) =>
    Object.fromEntries(
      hosts.flatMap(({ name, node }, index): [string, InventoryNode][] => {
        const host = prepared[index];
        return host === undefined ? [] : [[name, inventoryNode(node, config.deployUser, host, script)]];
      }),
    ),
  );
  return nodes.apply((known) => buildInventory(stack, config, known));
}

function makeCloud(id: StackId, { config, plan }: CheckedStack, settings: HcloudSettings): Cloud | null {
  if (config.network === null || plan === null) return null;
  const given = Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
  const provider = new hcloud.Provider("hcloud", given);
  const network = new PrivateNetwork("network", { id, network: config.network, plan }, { provider });
  const request = { operators: config.operators.addresses, app: config.app, servicePorts: config.servicePorts, sshPort: 22 };
  const firewall = new ServiceFirewall("firewall", { id, request }, { provider });
  const sshKey = hcloudNodes(config).length > 0 ? makeSshKey(id, provider) : null;
  return { provider, network, firewall, sshKey };
}

/** The one that servers are made with; nobody can log in with it. */
function makeSshKey(id: StackId, provider: hcloud.Provider): hcloud.SshKey {
  const made = new command.local.Command(
    "server-key",
    { create: makeUnusableKey, addPreviousOutputInEnv: false },
    // Another one would be of no more use.
    { ignoreChanges: ["create"] },
  );
  return new hcloud.SshKey(
    "server-key",
    { name: resourceName(id, "server-key"), publicKey: made.stdout, labels: labels(id) },
    { provider, deleteBeforeReplace: true },
  );
}

function makeHost(site: Site, name: string, node: NodeConfig): MadeHost {
  const values = hostValues(site.checked, name, node);
  switch (node.kind) {
    case "adopted":
      return adopt(site, name, node, values);
    case "hcloud": {
      const { cloud, checked, id, secrets } = site;
      const privateAddress = checked.plan?.addresses[name];
      if (cloud?.sshKey == null || privateAddress === undefined)
        throw new Error(`${name} has no network: the configuration was not checked`);
      const { provider, network, firewall, sshKey } = cloud;
      const shared = { network, firewall, sshKey };
      const { operators, protect } = checked.config;
      const args = { id, name, node, privateAddress, operators: operators.keys, values, privateKey: secrets.privateKey, protect };
      return new HcloudHost(name, { ...args, ...shared }, { providers: { hcloud: provider } });
    }
  }
}

function adopt({ checked: { plan }, cloud, secrets }: Site, name: string, node: AdoptedNode, values: HostValues): MadeHost {
  const subnet = plan?.vswitch ?? null;
  const vswitch = plan === null || subnet === null ? null : { subnet, range: plan.range, ready: cloud?.network.vswitch };
  return new AdoptedHost(name, { name, node, values, privateKey: secrets.privateKey, vswitch }, {});
}

function makeCluster(site: Site, cluster: ClusterConfig, hosts: { name: string; node: NodeConfig; made: MadeHost }[]): void {
  const { kubeconfig, k3sToken } = site.secrets;
  const kubernetes = new k8s.Provider("cluster", {
    context: cluster.context,
    ...(kubeconfig === undefined ? {} : { kubeconfig }),
  });
  const joining = cluster.kind === "k3s" ? hosts.filter(({ name }) => cluster.agents.includes(name)) : [];
  const agents = joining.map(({ name, node, made }) => {
    const { gpu, robot } = node.kind === "adopted" ? node : { gpu: null, robot: null };
    const address = privateAddressOf(site.checked, name, node);
    return { node: { name, address, gpu: gpu !== null, dedicated: robot !== null }, reach: made.reach, ready: made.ready };
  });
  const pool = new GpuNodePool("pool", { cluster, agents, token: k3sToken, kubernetes, kubeconfig }, {});
  const { protect } = site.checked.config;
  new GpuRuntime("gpu", { id: site.id, cluster, kubernetes, kubeconfig, nodes: pool.members, protect }, {});
}
