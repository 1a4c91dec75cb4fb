/** `hcloud.Server` of the double. */
import { createHash } from "node:crypto";
import { HcloudClient } from "./hcloud-client.js";
import { Unfinished, type ResourceKind } from "./provider.js";
import type { Properties } from "./values.js";

interface PublicNet {
  ipv4Enabled?: boolean;
  ipv6Enabled?: boolean;
  ipv4?: number;
  ipv6?: number;
}

interface ShownServer {
  id: number;
  name: string;
  labels: Record<string, string>;
  status: string;
  location: { name: string };
  server_type: { name: string };
  primary_disk_size: number;
  public_net: { ipv4: { ip: string } | null; ipv6: { ip: string } | null; firewalls: { id: number }[] };
}

/** The state holds a hash of the user data, which the API never gives back. */
const userDataHash = (userData: unknown): Properties =>
  typeof userData === "string" ? { userData: createHash("sha1").update(userData).digest("base64") } : {};

function outputsOf(server: ShownServer): Properties {
  const { ipv4, ipv6, firewalls } = server.public_net;
  return {
    name: server.name,
    labels: server.labels,
    status: server.status,
    location: server.location.name,
    serverType: server.server_type.name,
    primaryDiskSize: server.primary_disk_size,
    ipv4Address: ipv4?.ip ?? "",
    ipv6Address: ipv6 === null ? "" : ipv6.ip.replace(/::\/64$/, "::1"),
    ipv6Network: ipv6?.ip ?? "",
    firewallIds: firewalls.map(({ id }) => id),
  };
}

function creation(inputs: Properties): Properties {
  const [net] = (inputs["publicNets"] ?? []) as PublicNet[];
  return {
    name: inputs["name"],
    server_type: inputs["serverType"],
    image: inputs["image"],
    location: inputs["location"],
    user_data: inputs["userData"],
    labels: inputs["labels"],
    ssh_keys: ((inputs["sshKeys"] ?? []) as string[]).map(Number),
    firewalls: ((inputs["firewallIds"] ?? []) as number[]).map((firewall) => ({ firewall })),
    placement_group: inputs["placementGroupId"],
    ...(net === undefined
      ? {}
      : { public_net: { enable_ipv4: net.ipv4Enabled, enable_ipv6: net.ipv6Enabled, ipv4: net.ipv4, ipv6: net.ipv6 } }),
  };
}

const protection = (inputs: Properties): Properties => ({
  delete: inputs["deleteProtection"] === true,
  rebuild: inputs["rebuildProtection"] === true,
});

async function finish(client: HcloudClient, id: string, inputs: Properties): Promise<Properties> {
  const wanted = protection(inputs);
  if (wanted["delete"] === true || wanted["rebuild"] === true)
    await client.call("POST", `/servers/${id}/actions/change_protection`, wanted);
  const server = (await client.call("GET", `/servers/${id}`))["server"] as ShownServer;
  return { ...outputsOf(server), ...userDataHash(inputs["userData"]) };
}

/** Power goes off for a change of the type, and on again: that is what the provider does. */
async function changeType(client: HcloudClient, id: string, inputs: Properties): Promise<void> {
  await client.call("POST", `/servers/${id}/actions/poweroff`, {});
  const upgrade = { server_type: inputs["serverType"], upgrade_disk: inputs["keepDisk"] !== true };
  await client.call("POST", `/servers/${id}/actions/change_type`, upgrade);
  await client.call("POST", `/servers/${id}/actions/poweron`, {});
}

async function changeFirewalls(client: HcloudClient, id: string, before: unknown, after: unknown): Promise<void> {
  const [had, has] = [before ?? [], after ?? []] as number[][];
  const to = [{ type: "server", server: { id: Number(id) } }];
  for (const firewall of has!.filter((one) => !had!.includes(one)))
    await client.call("POST", `/firewalls/${firewall}/actions/apply_to_resources`, { apply_to: to });
  for (const firewall of had!.filter((one) => !has!.includes(one)))
    await client.call("POST", `/firewalls/${firewall}/actions/remove_from_resources`, { remove_from: to });
}

export const serverKind: ResourceKind = {
  replacedBy: ["image", "location", "sshKeys", "userData"],
  deletesFirst: (inputs) => typeof inputs["name"] === "string",
  check(inputs) {
    if ("datacenter" in inputs) throw new Error("datacenter was removed; use location");
    if (inputs["serverType"] === undefined) throw new Error("Missing required argument: serverType");
  },
  async create(inputs, configuration) {
    const client = new HcloudClient(configuration);
    const made: { id?: string } = {};
    try {
      // The server is there once this is answered; its action may still fail.
      const answer = await client.begin("POST", "/servers", creation(inputs));
      made.id = String((answer["server"] as ShownServer).id);
      await client.finish(answer);
      return { id: made.id, outputs: await finish(client, made.id, inputs) };
    } catch (error) {
      if (made.id === undefined || !(error instanceof Error)) throw error;
      throw new Unfinished({ id: made.id, outputs: userDataHash(inputs["userData"]) }, error.message);
    }
  },
  async update(id, inputs, { inputs: before }, configuration) {
    const client = new HcloudClient(configuration);
    const fields = { name: inputs["name"], labels: inputs["labels"] ?? {} };
    await client.call("PUT", `/servers/${id}`, fields);
    if (inputs["serverType"] !== before["serverType"]) await changeType(client, id, inputs);
    await changeFirewalls(client, id, before["firewallIds"], inputs["firewallIds"]);
    await client.call("POST", `/servers/${id}/actions/change_protection`, protection(inputs));
    return finish(client, id, inputs);
  },
  async read(id, outputs, configuration) {
    const found = await new HcloudClient(configuration).find(`/servers/${id}`, "server");
    return found === undefined ? undefined : { ...outputs, ...outputsOf(found as unknown as ShownServer) };
  },
  delete: (id, _outputs, configuration) => new HcloudClient(configuration).remove(`/servers/${id}`),
};
