/** Servers and volumes, as the provider's plugin and `gpuctl infra gc` use them. */
import { addPrimaryIp } from "./routes-network.js";
import { changeProtection, requireFree, requireUnprotected } from "./routes-common.js";
import { created, gone, invalid, labels, ok, text, type Call, type Reply, type Route } from "./routing.js";
import { ApiError, type Thing } from "./world.js";

/** The limit of the API for user data, bytes. */
const maxUserData = 32 * 1024;

interface PublicNet {
  enable_ipv4?: boolean;
  enable_ipv6?: boolean;
  ipv4?: number;
  ipv6?: number;
}

const byIdOrName = <Item extends { id: number; name: string }>(items: readonly Item[], wanted: unknown): Item | undefined =>
  items.find(({ id, name }) => wanted === name || String(id) === String(wanted));

/** Throws when the type is not sold in the location right now. */
function serverType(call: Call, location: string) {
  const found = byIdOrName(call.catalogue.serverTypes, call.body["server_type"]);
  if (found === undefined) throw invalid("server_type", "server type not found");
  const there = found.locations.find(({ name }) => name === location);
  if (there?.available !== true) throw new ApiError(412, "resource_unavailable", "error during placement");
  return found;
}

function publicNet(call: Call, server: { id: number; name: string }, location: string): Record<string, unknown> {
  const wanted = (call.body["public_net"] ?? {}) as PublicNet;
  const one = (
    type: "ipv4" | "ipv6",
    enabled: boolean | undefined,
    given: number | undefined,
  ): Record<string, unknown> | null => {
    if (enabled === false) return null;
    const name = `${server.name}-${type}`;
    const address =
      given === undefined
        ? addPrimaryIp(call, { name, type, location, auto_delete: true }, server.id)
        : call.world.get("primary_ips", given);
    if (given !== undefined && address["assignee_id"] !== null && address["assignee_id"] !== server.id)
      throw new ApiError(422, "primary_ip_assigned", "primary IP is assigned to another server");
    address["assignee_id"] = server.id;
    return { id: address.id, ip: address["ip"], blocked: false, dns_ptr: type === "ipv4" ? "" : [] };
  };
  return {
    ipv4: one("ipv4", wanted.enable_ipv4, wanted.ipv4),
    ipv6: one("ipv6", wanted.enable_ipv6, wanted.ipv6),
    floating_ips: [],
    firewalls: [],
  };
}

/** What every new server begins with. */
const fresh = () => ({
  private_net: [],
  load_balancers: [],
  protection: { delete: false, rebuild: false },
  rescue_enabled: false,
  locked: false,
  backup_window: null,
  iso: null,
  included_traffic: 21_990_232_555_520,
  ingoing_traffic: 0,
  outgoing_traffic: 0,
});

function create(call: Call): Reply {
  const { body, world, catalogue } = call;
  if (body["datacenter"] !== undefined) throw invalid("datacenter", "Unknown field.");
  if (typeof body["user_data"] === "string" && Buffer.byteLength(body["user_data"]) > maxUserData)
    throw invalid("user_data", "Longer than 32 KiB.");
  const name = text(body, "name");
  world.unique("servers", "name", name);
  const location = byIdOrName(catalogue.locations, body["location"] ?? "fsn1");
  if (location === undefined) throw invalid("location", "location not found");
  const type = serverType(call, location.name);
  const image = byIdOrName(
    catalogue.images.filter(({ architecture }) => architecture === type.architecture),
    body["image"],
  );
  if (image === undefined) throw invalid("image", "image not found");
  for (const key of (body["ssh_keys"] ?? []) as unknown[]) world.get("ssh_keys", key);
  const group = body["placement_group"] === undefined ? null : world.get("placement_groups", body["placement_group"]);
  const server = world.add("servers", {
    name,
    labels: labels(body),
    status: body["start_after_create"] === false ? "off" : "running",
    server_type: type,
    image,
    location,
    volumes: body["volumes"] ?? [],
    placement_group: group,
    primary_disk_size: type.disk,
    ...fresh(),
  });
  server["public_net"] = publicNet(call, server, location.name);
  if (group !== null) (group["servers"] as number[]).push(server.id);
  joinFirewalls(call, server);
  const on = [{ id: server.id, type: "server" }];
  const attached = ((body["networks"] ?? []) as number[]).map((network) => attach(call, server, network, undefined));
  return created({ server, action: world.begin("create_server", on), next_actions: attached, root_password: null });
}

function joinFirewalls(call: Call, server: Thing): void {
  for (const { firewall: id } of (call.body["firewalls"] ?? []) as { firewall: number }[]) {
    const firewall = call.world.get("firewalls", id);
    (firewall["applied_to"] as unknown[]).push({ type: "server", server: { id: server.id } });
    const net = server["public_net"] as { firewalls: unknown[] };
    net.firewalls.push({ id, status: "applied" });
  }
}

function attach(call: Call, server: Thing, id: unknown, ip: unknown): unknown {
  const network = call.world.get("networks", id);
  const [subnet] = network["subnets"] as { ip_range: string }[];
  if (subnet === undefined) throw new ApiError(409, "no_subnet_available", "network has no subnet");
  const servers = network["servers"] as number[];
  const nets = server["private_net"] as { network: number }[];
  if (nets.some((net) => net.network === network.id))
    throw new ApiError(409, "server_already_attached", "server is already attached to network");
  const chosen = typeof ip === "string" ? ip : subnet.ip_range.replace(/\d+\/\d+$/, String(servers.length + 2));
  server["private_net"] = [...nets, { network: network.id, ip: chosen, alias_ips: [], mac_address: "86:00:ff:2a:7d:e1" }];
  servers.push(server.id);
  return call.world.begin("attach_to_network", [
    { id: server.id, type: "server" },
    { id: network.id, type: "network" },
  ]);
}

function detach(call: Call, server: Thing, id: number): void {
  server["private_net"] = (server["private_net"] as { network: number }[]).filter(({ network }) => network !== id);
  const network = call.world.find("networks", id);
  if (network !== undefined) network["servers"] = (network["servers"] as number[]).filter((one) => one !== server.id);
}

function remove(call: Call): Reply {
  const server = call.world.get("servers", call.params[0]);
  requireFree(call, "servers", server);
  requireUnprotected(server, "servers");
  for (const { network } of server["private_net"] as { network: number }[]) detach(call, server, network);
  for (const volume of call.world.list("volumes")) if (volume["server"] === server.id) volume["server"] = null;
  for (const firewall of call.world.list("firewalls"))
    firewall["applied_to"] = (firewall["applied_to"] as { server?: { id: number } }[]).filter(
      (to) => to.server?.id !== server.id,
    );
  for (const group of call.world.list("placement_groups"))
    group["servers"] = (group["servers"] as number[]).filter((id) => id !== server.id);
  for (const address of call.world.list("primary_ips").filter((one) => one["assignee_id"] === server.id)) {
    if (address["auto_delete"] === true) call.world.remove("primary_ips", address.id);
    else address["assignee_id"] = null;
  }
  call.world.remove("servers", server.id);
  return ok({ action: call.world.begin("delete_server", [{ id: server.id, type: "server" }]) });
}

const serverAction = (name: string, command: string, change: (server: Thing, call: Call) => void): Route => [
  "POST",
  new RegExp(`^/servers/(\\d+)/actions/${name}$`),
  (call) => {
    const server = call.world.get("servers", call.params[0]);
    requireFree(call, "servers", server);
    change(server, call);
    return created({ action: call.world.begin(command, [{ id: server.id, type: "server" }]) });
  },
];

const servers: readonly Route[] = [
  ["POST", /^\/servers$/, create],
  ["DELETE", /^\/servers\/(\d+)$/, remove],
  [
    "POST",
    /^\/servers\/(\d+)\/actions\/attach_to_network$/,
    (call) => {
      const server = call.world.get("servers", call.params[0]);
      requireFree(call, "servers", server);
      return created({ action: attach(call, server, call.body["network"], call.body["ip"]) });
    },
  ],
  serverAction("detach_from_network", "detach_from_network", (server, call) =>
    detach(call, server, Number(call.body["network"])),
  ),
  serverAction("poweron", "start_server", (server) => void (server["status"] = "running")),
  serverAction("poweroff", "stop_server", (server) => void (server["status"] = "off")),
  serverAction("reboot", "reboot_server", () => undefined),
  serverAction("change_type", "change_server_type", (server, call) => {
    if (server["status"] !== "off") throw new ApiError(422, "server_not_stopped", "server must be stopped");
    server["server_type"] = serverType(call, (server["location"] as { name: string }).name);
  }),
  changeProtection("servers"),
];

const volumeAction = (name: string, command: string, change: (volume: Thing, call: Call) => void): Route => [
  "POST",
  new RegExp(`^/volumes/(\\d+)/actions/${name}$`),
  (call) => {
    const volume = call.world.get("volumes", call.params[0]);
    requireFree(call, "volumes", volume);
    change(volume, call);
    return created({ action: call.world.begin(command, [{ id: volume.id, type: "volume" }]) });
  },
];

const volumes: readonly Route[] = [
  [
    "POST",
    /^\/volumes$/,
    (call) => {
      const { body, world, catalogue } = call;
      const size = Number(body["size"]);
      if (!(size >= 10)) throw invalid("size", "must be at least 10");
      const server = body["server"] === undefined ? null : world.get("servers", body["server"]);
      const location = server?.["location"] ?? byIdOrName(catalogue.locations, body["location"]);
      if (location === undefined) throw invalid("location", "Missing data for required field.");
      const fields = { size, location, format: body["format"] ?? null, server: server?.id ?? null, status: "available" };
      const volume = world.add("volumes", {
        name: text(body, "name"),
        labels: labels(body),
        protection: { delete: false },
        ...fields,
      });
      volume["linux_device"] = `/dev/disk/by-id/scsi-0HC_Volume_${String(volume.id)}`;
      const on = [{ id: volume.id, type: "volume" }];
      const next = server === null ? [] : [world.begin("attach_volume", on)];
      return created({ volume, action: world.begin("create_volume", on), next_actions: next });
    },
  ],
  [
    "DELETE",
    /^\/volumes\/(\d+)$/,
    (call) => {
      const volume = call.world.get("volumes", call.params[0]);
      requireFree(call, "volumes", volume);
      requireUnprotected(volume, "volumes");
      if (volume["server"] !== null) throw new ApiError(422, "volume_still_attached", "volume is attached to a server");
      call.world.remove("volumes", volume.id);
      return gone;
    },
  ],
  volumeAction("attach", "attach_volume", (volume, { body, world }) => {
    volume["server"] = world.get("servers", body["server"]).id;
  }),
  volumeAction("detach", "detach_volume", (volume) => void (volume["server"] = null)),
  volumeAction("resize", "resize_volume", (volume, { body }) => {
    if (!(Number(body["size"]) > Number(volume["size"]))) throw invalid("size", "volumes can only grow");
    volume["size"] = body["size"];
  }),
  changeProtection("volumes"),
];

export const serverRoutes: readonly Route[] = [...servers, ...volumes];
