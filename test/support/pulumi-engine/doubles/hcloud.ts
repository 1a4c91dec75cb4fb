/**
 * @pulumi/hcloud as a double that speaks HTTP to an API, as the provider does. What replaces is what its source marks so (`ForceNew`,
 * `RequiresReplace`; v1.67); a resource with a name of ours is deleted before it is replaced, as Pulumi's bridge does it.
 * Only the types that gpuctl's program makes.
 */
import { applyTo, attachmentKinds, type ApplyTo } from "./hcloud-attachments.js";
import { HcloudClient } from "./hcloud-client.js";
import { serverKind } from "./hcloud-server.js";
import { Unfinished, type ProviderDouble, type ResourceKind } from "./provider.js";
import type { Properties } from "./values.js";

/** A kind whose things have a path of their own and are created by one call. */
interface Simple {
  /** `volumes`. */
  list: string;
  /** `volume`: where an answer has the thing. */
  key: string;
  replacedBy?: readonly string[];
  creation: (inputs: Properties) => Properties;
  outputs: (thing: Properties) => Properties;
  /** What follows creation and belongs to an update: given what was, undefined after creation. */
  settle?: (client: HcloudClient, id: string, inputs: Properties, before: Properties | undefined) => Promise<void>;
}

const named = (inputs: Properties): Properties => ({ name: inputs["name"], labels: inputs["labels"] });

const protect = async (client: HcloudClient, path: string, inputs: Properties, before: Properties | undefined): Promise<void> => {
  const [now, then] = [inputs["deleteProtection"] === true, before?.["deleteProtection"] === true];
  if (now !== then) await client.call("POST", `${path}/actions/change_protection`, { delete: now });
};

function simple({ list, key, replacedBy = [], creation, outputs, settle }: Simple): ResourceKind {
  const pathOf = (id: string) => `/${list}/${id}`;
  const shown = async (client: HcloudClient, id: string) => outputs((await client.call("GET", pathOf(id)))[key] as Properties);
  return {
    replacedBy,
    deletesFirst: (inputs) => typeof inputs["name"] === "string",
    async create(inputs, configuration) {
      const client = new HcloudClient(configuration);
      const answer = await client.begin("POST", `/${list}`, { ...named(inputs), ...creation(inputs) });
      const id = String((answer[key] as { id: number }).id);
      try {
        await client.finish(answer);
        await settle?.(client, id, inputs, undefined);
        return { id, outputs: await shown(client, id) };
      } catch (error) {
        throw new Unfinished({ id }, error instanceof Error ? error.message : String(error));
      }
    },
    async update(id, inputs, { inputs: before }, configuration) {
      const client = new HcloudClient(configuration);
      await client.call("PUT", pathOf(id), { name: inputs["name"], labels: inputs["labels"] ?? {} });
      await settle?.(client, id, inputs, before);
      return shown(client, id);
    },
    async read(id, _outputs, configuration) {
      const thing = await new HcloudClient(configuration).find(pathOf(id), key);
      return thing === undefined ? undefined : outputs(thing);
    },
    delete: (id, _outputs, configuration) => new HcloudClient(configuration).remove(pathOf(id)),
  };
}

interface Rule {
  direction: string;
  protocol: string;
  port?: string;
  sourceIps?: string[];
  destinationIps?: string[];
  description?: string;
}

const rulesOf = (inputs: Properties): Properties => ({
  rules: ((inputs["rules"] ?? []) as Rule[]).map(({ sourceIps, destinationIps, ...rule }) => ({
    ...rule,
    source_ips: sourceIps ?? [],
    destination_ips: destinationIps ?? [],
  })),
});

const kinds: Record<string, ResourceKind> = {
  "hcloud:index/server:Server": serverKind,
  ...attachmentKinds,
  "hcloud:index/sshKey:SshKey": simple({
    list: "ssh_keys",
    key: "ssh_key",
    replacedBy: ["publicKey"],
    creation: (inputs) => ({ public_key: inputs["publicKey"] }),
    outputs: (thing) => ({ fingerprint: thing["fingerprint"] }),
  }),
  "hcloud:index/network:Network": simple({
    list: "networks",
    key: "network",
    replacedBy: ["ipRange"],
    creation: (inputs) => ({ ip_range: inputs["ipRange"], expose_routes_to_vswitch: inputs["exposeRoutesToVswitch"] }),
    outputs: () => ({}),
    settle: (client, id, inputs, before) => protect(client, `/networks/${id}`, inputs, before),
  }),
  "hcloud:index/placementGroup:PlacementGroup": simple({
    list: "placement_groups",
    key: "placement_group",
    creation: (inputs) => ({ type: inputs["type"] }),
    outputs: (thing) => ({ servers: thing["servers"] }),
  }),
  "hcloud:index/firewall:Firewall": simple({
    list: "firewalls",
    key: "firewall",
    creation: (inputs) => ({ ...rulesOf(inputs), apply_to: ((inputs["applyTos"] ?? []) as ApplyTo[]).map(applyTo) }),
    outputs: () => ({}),
    async settle(client, id, inputs, before) {
      if (before !== undefined) await client.call("POST", `/firewalls/${id}/actions/set_rules`, rulesOf(inputs));
    },
  }),
  "hcloud:index/primaryIp:PrimaryIp": simple({
    list: "primary_ips",
    key: "primary_ip",
    replacedBy: ["type", "location"],
    creation: (inputs) => ({
      type: inputs["type"],
      assignee_type: inputs["assigneeType"],
      location: inputs["location"],
      auto_delete: inputs["autoDelete"],
    }),
    outputs: (thing) => ({ ipAddress: thing["ip"], location: (thing["location"] as { name: string }).name }),
    settle: (client, id, inputs, before) => protect(client, `/primary_ips/${id}`, inputs, before),
  }),
  "hcloud:index/volume:Volume": simple({
    list: "volumes",
    key: "volume",
    replacedBy: ["location"],
    creation: (inputs) => ({
      size: inputs["size"],
      location: inputs["location"],
      server: inputs["serverId"],
      format: inputs["format"],
    }),
    outputs: (thing) => ({ linuxDevice: thing["linux_device"], location: (thing["location"] as { name: string }).name }),
    async settle(client, id, inputs, before) {
      if (before !== undefined && inputs["size"] !== before["size"])
        await client.call("POST", `/volumes/${id}/actions/resize`, { size: inputs["size"] });
      await protect(client, `/volumes/${id}`, inputs, before);
    },
  }),
};

/** Where the provider finds what its configuration does not say: HCLOUD_TOKEN and HCLOUD_ENDPOINT of the one who runs `pulumi`. */
export interface HcloudEnvironment {
  token?: string;
  endpoint: string;
}

export const hcloudDouble = (version: string, environment: HcloudEnvironment): ProviderDouble => ({
  name: "hcloud",
  version,
  kind: (type) => kinds[type],
  configure(configuration) {
    const completed: Properties = { ...environment, ...configuration };
    const { token } = completed;
    if (typeof token !== "string" || token.length !== 64)
      throw new Error("entered token is invalid (must be exactly 64 characters long)");
    return completed;
  },
});
