/** What connects the things of the hcloud double: subnets of networks, servers in networks, targets of firewalls, volumes of servers. */
import { HcloudClient } from "./hcloud-client.js";
import type { ResourceKind } from "./provider.js";
import type { Properties } from "./values.js";

export interface ApplyTo {
  server?: number;
  labelSelector?: string;
}

export const applyTo = ({ server, labelSelector }: ApplyTo): Properties =>
  server === undefined
    ? { type: "label_selector", label_selector: { selector: labelSelector } }
    : { type: "server", server: { id: server } };

const firewallTargets = (inputs: Properties): ApplyTo[] => [
  ...((inputs["serverIds"] ?? []) as number[]).map((server) => ({ server })),
  ...((inputs["labelSelectors"] ?? []) as string[]).map((labelSelector) => ({ labelSelector })),
];

/** Which servers and labels a firewall is for, when that is a resource of its own. */
const firewallAttachment: ResourceKind = {
  replacedBy: ["firewallId"],
  async create(inputs, configuration) {
    const id = String(inputs["firewallId"]);
    const targets = firewallTargets(inputs).map(applyTo);
    await new HcloudClient(configuration).call("POST", `/firewalls/${id}/actions/apply_to_resources`, { apply_to: targets });
    return { id };
  },
  async update(id, inputs, { inputs: before }, configuration) {
    const client = new HcloudClient(configuration);
    const [now, then] = [firewallTargets(inputs), firewallTargets(before)].map((all) =>
      all.map((one) => JSON.stringify(applyTo(one))),
    );
    const parse = (all: string[]) => all.map((one) => JSON.parse(one) as Properties);
    const [more, less] = [now!.filter((one) => !then!.includes(one)), then!.filter((one) => !now!.includes(one))];
    const path = `/firewalls/${id}/actions`;
    if (more.length > 0) await client.call("POST", `${path}/apply_to_resources`, { apply_to: parse(more) });
    if (less.length > 0) await client.call("POST", `${path}/remove_from_resources`, { remove_from: parse(less) });
    return {};
  },
  async read(id, outputs, configuration) {
    const found = await new HcloudClient(configuration).find(`/firewalls/${id}`, "firewall");
    return found === undefined ? undefined : outputs;
  },
  async delete(id, outputs, configuration) {
    const client = new HcloudClient(configuration);
    // A server that is gone took its place in the firewall with it.
    const firewall = await client.find(`/firewalls/${id}`, "firewall");
    if (firewall === undefined) return;
    const targets = firewallTargets(outputs).map(applyTo);
    await client.call("POST", `/firewalls/${id}/actions/remove_from_resources`, { remove_from: targets });
  },
};

const subnet: ResourceKind = {
  replacedBy: ["networkId", "type", "networkZone", "ipRange", "vswitchId"],
  async create(inputs, configuration) {
    const network = String(inputs["networkId"]);
    const client = new HcloudClient(configuration);
    await client.call("POST", `/networks/${network}/actions/add_subnet`, {
      type: inputs["type"],
      ip_range: inputs["ipRange"],
      network_zone: inputs["networkZone"],
      vswitch_id: inputs["vswitchId"],
    });
    return { id: `${network}-${String(inputs["ipRange"])}`, outputs: await subnetOutputs(client, network, inputs["ipRange"]) };
  },
  async read(id, _outputs, configuration) {
    const [network, range] = id.split(/-(.*)/, 2);
    const outputs = await subnetOutputs(new HcloudClient(configuration), network!, range);
    return outputs["gateway"] === undefined ? undefined : outputs;
  },
  async delete(id, outputs, configuration) {
    const [network] = id.split("-");
    const client = new HcloudClient(configuration);
    if ((await client.find(`/networks/${network!}`, "network")) === undefined) return;
    await client.call("POST", `/networks/${network!}/actions/delete_subnet`, { ip_range: outputs["ipRange"] });
  },
};

async function subnetOutputs(client: HcloudClient, network: string, range: unknown): Promise<Properties> {
  const found = await client.find(`/networks/${network}`, "network");
  const subnets = (found?.["subnets"] ?? []) as { ip_range: string; gateway: string }[];
  return { gateway: subnets.find(({ ip_range: one }) => one === range)?.gateway };
}

interface PrivateNet {
  network: number;
  ip: string;
  mac_address: string;
}

const serverNetwork: ResourceKind = {
  replacedBy: ["serverId", "networkId", "subnetId", "ip"],
  check(inputs) {
    if ("networkId" in inputs === "subnetId" in inputs) throw new Error("exactly one of networkId and subnetId must be given");
  },
  async create(inputs, configuration) {
    const client = new HcloudClient(configuration);
    const network = Number(inputs["networkId"] ?? String(inputs["subnetId"]).split("-")[0]);
    const server = String(inputs["serverId"]);
    await client.call("POST", `/servers/${server}/actions/attach_to_network`, { network, ip: inputs["ip"] });
    return { id: `${server}-${network}`, outputs: (await privateNet(client, server, network)) ?? {} };
  },
  async read(id, _outputs, configuration) {
    const [server, network] = id.split("-");
    return privateNet(new HcloudClient(configuration), server!, Number(network));
  },
  async delete(id, _outputs, configuration) {
    const [server, network] = id.split("-");
    const client = new HcloudClient(configuration);
    if ((await privateNet(client, server!, Number(network))) === undefined) return;
    await client.call("POST", `/servers/${server!}/actions/detach_from_network`, { network: Number(network) });
  },
};

async function privateNet(client: HcloudClient, server: string, network: number): Promise<Properties | undefined> {
  const found = await client.find(`/servers/${server}`, "server");
  const net = ((found?.["private_net"] ?? []) as PrivateNet[]).find((one) => one.network === network);
  return net === undefined ? undefined : { networkId: network, ip: net.ip, macAddress: net.mac_address, aliasIps: [] };
}

const volumeAttachment: ResourceKind = {
  replacedBy: ["volumeId", "serverId"],
  async create(inputs, configuration) {
    const id = String(inputs["volumeId"]);
    const attachment = { server: Number(inputs["serverId"]), automount: inputs["automount"] === true };
    await new HcloudClient(configuration).call("POST", `/volumes/${id}/actions/attach`, attachment);
    return { id };
  },
  async read(id, outputs, configuration) {
    const volume = await new HcloudClient(configuration).find(`/volumes/${id}`, "volume");
    return volume?.["server"] == null ? undefined : outputs;
  },
  async delete(id, _outputs, configuration) {
    const client = new HcloudClient(configuration);
    const volume = await client.find(`/volumes/${id}`, "volume");
    if (volume?.["server"] != null) await client.call("POST", `/volumes/${id}/actions/detach`, {});
  },
};

export const attachmentKinds: Record<string, ResourceKind> = {
  "hcloud:index/firewallAttachment:FirewallAttachment": firewallAttachment,
  "hcloud:index/networkSubnet:NetworkSubnet": subnet,
  "hcloud:index/serverNetwork:ServerNetwork": serverNetwork,
  "hcloud:index/volumeAttachment:VolumeAttachment": volumeAttachment,
};
