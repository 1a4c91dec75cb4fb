/** Networks with their subnets and routes, firewalls, and primary addresses. */
import { changeProtection, requireUnprotected } from "./routes-common.js";
import { created, gone, invalid, labels, text, type Call, type Reply, type Route } from "./routing.js";
import { ApiError, type Thing } from "./world.js";

interface Subnet {
  type: string;
  ip_range: string;
  network_zone: string;
  gateway: string;
  vswitch_id?: number;
}

const action = (call: Call, command: string, thing: Thing, type: string): Reply =>
  created({ action: call.world.begin(command, [{ id: thing.id, type }]) });

function subnetOf(body: Record<string, unknown>, range: string): Subnet {
  const type = text(body, "type");
  if (!["cloud", "server", "vswitch"].includes(type)) throw invalid("type", "must be cloud, server or vswitch");
  const ipRange = typeof body["ip_range"] === "string" ? body["ip_range"] : range;
  const zone = text(body, "network_zone");
  const gateway = ipRange.replace(/\d+\/\d+$/, "1");
  const subnet = { type, ip_range: ipRange, network_zone: zone, gateway };
  if (type !== "vswitch") return subnet;
  if (typeof body["vswitch_id"] !== "number") throw invalid("vswitch_id", "Missing data for required field.");
  if (zone !== "eu-central") throw invalid("network_zone", "vSwitches are in eu-central only");
  return { ...subnet, vswitch_id: body["vswitch_id"] };
}

const networkAction = (name: string, change: (network: Thing, call: Call) => void): Route => [
  "POST",
  new RegExp(`^/networks/(\\d+)/actions/${name}$`),
  (call) => {
    const network = call.world.get("networks", call.params[0]);
    if (call.world.isBusy("network", network.id)) throw new ApiError(409, "conflict", "network is being changed");
    change(network, call);
    return action(call, name, network, "network");
  },
];

const networks: readonly Route[] = [
  [
    "POST",
    /^\/networks$/,
    (call) => {
      const range = text(call.body, "ip_range");
      const subnets = ((call.body["subnets"] ?? []) as Record<string, unknown>[]).map((one) => subnetOf(one, range));
      const network = call.world.add("networks", {
        name: text(call.body, "name"),
        labels: labels(call.body),
        ip_range: range,
        subnets,
        routes: call.body["routes"] ?? [],
        servers: [],
        load_balancers: [],
        protection: { delete: false },
        expose_routes_to_vswitch: call.body["expose_routes_to_vswitch"] === true,
      });
      return created({ network });
    },
  ],
  [
    "DELETE",
    /^\/networks\/(\d+)$/,
    (call) => {
      const network = call.world.get("networks", call.params[0]);
      requireUnprotected(network, "networks");
      // Servers that are attached are detached in the background.
      for (const server of call.world.list("servers"))
        server["private_net"] = (server["private_net"] as { network: number }[]).filter((one) => one.network !== network.id);
      call.world.remove("networks", network.id);
      return gone;
    },
  ],
  networkAction("add_subnet", (network, { body }) => {
    const subnet = subnetOf(body, String(network["ip_range"]));
    const subnets = network["subnets"] as Subnet[];
    if (subnets.some((one) => one.ip_range === subnet.ip_range)) throw invalid("ip_range", "overlaps another subnet");
    subnets.push(subnet);
  }),
  networkAction("delete_subnet", (network, { body }) => {
    const range = text(body, "ip_range");
    if ((network["servers"] as number[]).length > 0)
      throw new ApiError(422, "service_error", "cannot remove subnet because servers are attached to it");
    network["subnets"] = (network["subnets"] as Subnet[]).filter((one) => one.ip_range !== range);
  }),
  networkAction("add_route", (network, { body }) => {
    (network["routes"] as unknown[]).push({ destination: text(body, "destination"), gateway: text(body, "gateway") });
  }),
  networkAction("delete_route", (network, { body }) => {
    const routes = network["routes"] as { destination: string }[];
    network["routes"] = routes.filter((one) => one.destination !== text(body, "destination"));
  }),
  networkAction("change_ip_range", (network, { body }) => {
    network["ip_range"] = text(body, "ip_range");
  }),
  changeProtection("networks"),
];

interface Applied {
  type: string;
  server?: { id: number };
  label_selector?: { selector: string };
}

const same = (left: Applied, right: Applied): boolean =>
  left.server?.id === right.server?.id && left.label_selector?.selector === right.label_selector?.selector;

const firewallActions = (call: Call, firewall: Thing, command: string, to: readonly Applied[]): unknown[] =>
  to.map(({ server }) =>
    call.world.begin(command, [
      { id: firewall.id, type: "firewall" },
      ...(server === undefined ? [] : [{ id: server.id, type: "server" }]),
    ]),
  );

const firewallAction = (name: string, change: (firewall: Thing, call: Call) => readonly Applied[]): Route => [
  "POST",
  new RegExp(`^/firewalls/(\\d+)/actions/${name}$`),
  (call) => {
    const firewall = call.world.get("firewalls", call.params[0]);
    const to = change(firewall, call);
    return created({ actions: firewallActions(call, firewall, name === "set_rules" ? "set_firewall_rules" : name, to) });
  },
];

const firewalls: readonly Route[] = [
  [
    "POST",
    /^\/firewalls$/,
    (call) => {
      const applied = (call.body["apply_to"] ?? []) as Applied[];
      const fields = { rules: call.body["rules"] ?? [], applied_to: applied, labels: labels(call.body) };
      const firewall = call.world.add("firewalls", { name: text(call.body, "name"), ...fields });
      return created({ firewall, actions: firewallActions(call, firewall, "apply_firewall", applied) });
    },
  ],
  [
    "DELETE",
    /^\/firewalls\/(\d+)$/,
    (call) => {
      const firewall = call.world.get("firewalls", call.params[0]);
      if ((firewall["applied_to"] as Applied[]).length > 0)
        throw new ApiError(409, "resource_in_use", "firewall with ID is still in use");
      call.world.remove("firewalls", firewall.id);
      return gone;
    },
  ],
  firewallAction("set_rules", (firewall, { body }) => {
    firewall["rules"] = body["rules"] ?? [];
    return firewall["applied_to"] as Applied[];
  }),
  firewallAction("apply_to_resources", (firewall, { body, world }) => {
    const more = (body["apply_to"] ?? []) as Applied[];
    for (const { server } of more) if (server !== undefined) world.get("servers", server.id);
    firewall["applied_to"] = [...(firewall["applied_to"] as Applied[]), ...more];
    return more;
  }),
  firewallAction("remove_from_resources", (firewall, { body }) => {
    const less = (body["remove_from"] ?? []) as Applied[];
    firewall["applied_to"] = (firewall["applied_to"] as Applied[]).filter((one) => !less.some((other) => same(one, other)));
    return less;
  }),
];

const addressAction = (name: string, change: (address: Thing, body: Call["body"]) => void): Route => [
  "POST",
  new RegExp(`^/primary_ips/(\\d+)/actions/${name}$`),
  (call) => {
    const address = call.world.get("primary_ips", call.params[0]);
    change(address, call.body);
    return action(call, `${name}_primary_ip`, address, "primary_ip");
  },
];

/** A primary address of the project; `assignee` is the server that has it from the start. */
export function addPrimaryIp(call: Call, body: Record<string, unknown>, assignee: number | null): Thing {
  const { ipv4, ipv6 } = call.world.newAddress();
  const type = text(body, "type");
  const location = call.catalogue.locations.find(({ name }) => name === (body["location"] ?? "fsn1"));
  if (location === undefined) throw invalid("location", "not a location");
  return call.world.add("primary_ips", {
    name: text(body, "name"),
    labels: labels(body),
    type,
    ip: type === "ipv4" ? ipv4 : ipv6,
    assignee_type: "server",
    assignee_id: assignee,
    auto_delete: body["auto_delete"] === true,
    blocked: false,
    dns_ptr: [],
    location,
    protection: { delete: false },
  });
}

const primaryIps: readonly Route[] = [
  [
    "POST",
    /^\/primary_ips$/,
    (call) => {
      if (call.body["datacenter"] !== undefined) throw invalid("datacenter", "Unknown field.");
      const primary = addPrimaryIp(call, call.body, (call.body["assignee_id"] as number | undefined) ?? null);
      return created({ primary_ip: primary, action: null });
    },
  ],
  [
    "DELETE",
    /^\/primary_ips\/(\d+)$/,
    (call) => {
      const address = call.world.get("primary_ips", call.params[0]);
      requireUnprotected(address, "primary_ips");
      if (address["assignee_id"] !== null) throw new ApiError(422, "primary_ip_assigned", "primary IP is assigned to a server");
      call.world.remove("primary_ips", address.id);
      return gone;
    },
  ],
  addressAction("assign", (address, body) => {
    address["assignee_id"] = body["assignee_id"] ?? null;
  }),
  addressAction("unassign", (address) => {
    address["assignee_id"] = null;
  }),
  addressAction("change_dns_ptr", (address, body) => {
    address["dns_ptr"] = [{ ip: body["ip"], dns_ptr: body["dns_ptr"] }];
  }),
  changeProtection("primary_ips"),
];

export const networkRoutes: readonly Route[] = [...networks, ...firewalls, ...primaryIps];
