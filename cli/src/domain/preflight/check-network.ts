import { insidePort } from "../compose/inside.js";
import { blocker, ok, warning, type DoctorFinding } from "../doctor/finding.js";
import { commandsFor } from "./commands.js";
import type { Container, NodeFacts, NodeNetwork, Published } from "./facts.js";
import { innerInterface, refusesEverybody } from "./docker-user.js";
import { isOwn, type Entrance, type NodeNeeds } from "./needs.js";
import { collides, isLoopback, isPublic, isWildcard, within } from "./network.js";

/** The public ports: free or ours, on an address that the node has, and not open to more people than was said. */
export function checkNetwork(facts: NodeFacts, needs: NodeNeeds): DoctorFinding[] {
  return [
    ...checkBind(facts.network, needs),
    ...checkPorts(facts, needs),
    ...checkExposure(facts, needs),
    ...checkBypass(facts, needs),
  ];
}

function checkBind({ addresses }: NodeNetwork, { bind }: NodeNeeds): DoctorFinding[] {
  if (isWildcard(bind) || isLoopback(bind)) return [];
  if (!addresses.seen || addresses.value.some(({ address }) => within(address, [bind]))) return [];
  const has = addresses.value.map(({ address }) => address).filter((address) => !isLoopback(address));
  const because = `it has ${has.length === 0 ? "none" : has.join(", ")}`;
  const next = ["ip -brief address", "in gpuctl.yaml: bind: one of them"];
  return [blocker("ports", "bind-missing", `the node has no address ${bind}`, because, next)];
}

const containersOf = ({ docker }: NodeFacts): readonly Container[] =>
  docker.state === "reachable" && docker.containers.seen ? docker.containers.value : [];

function checkPorts(facts: NodeFacts, needs: NodeNeeds): DoctorFinding[] {
  const { listeners } = facts.network;
  const doors = [...doorsOf(needs), ...needs.entrances.filter(({ name }) => name === "challenge")];
  const findings = doors.map((door) => checkPort(door, facts, needs)).filter((finding) => finding !== null);
  if (listeners.seen) return findings;
  const because = `${listeners.because}; only ports of containers are known`;
  return [...findings, warning("ports", "listeners-unknown", "listening ports cannot be read", because, ["ss -ltnp"])];
}

/** A port that others are to reach. */
type Door = Omit<Entrance, "name"> & { name: string };

/** Ports of the services and of the ingress; without that of ACME's challenge, behind which nothing is. */
export function doorsOf({ services, entrances, tls }: NodeNeeds): Door[] {
  const inside: Readonly<Record<string, number>> = insidePort;
  const own = services.map(({ name, port, keys }) => ({ name, port, inside: inside[name] ?? port, tls, keys }));
  return [...own, ...entrances.filter(({ name }) => name === "ingress")];
}

const otherPort: Readonly<Record<string, string>> = {
  ingress: "another port of the ingress in gpuctl.yaml",
  challenge: "a certificate of your own in gpuctl.yaml (tls: { mode: files }): ACME asks on port 80",
};

/** Null where listeners cannot be read and no container is in the way: then nobody knows. */
function checkPort({ name, port }: Pick<Door, "name" | "port">, facts: NodeFacts, needs: NodeNeeds): DoctorFinding | null {
  const address = `${name} on ${needs.bind}:${port}`;
  const clashes = (one: Published): boolean => one.port === port && collides(one.address, needs.bind);
  const holder = containersOf(facts).find(({ published }) => published.some(clashes));
  if (holder !== undefined && isOwn(holder, needs)) return ok("ports", "port-ours", `${address} is held by this environment`);
  const { sudo } = commandsFor(facts);
  const other = `choose ${otherPort[name] ?? "another port for the service in gpuctl.yaml"}`;
  const look = `${sudo}ss -ltnp 'sport = :${port}'`;
  if (holder !== undefined) {
    const because = `the container ${holder.name} (${holder.image}) publishes it`;
    const next = [`${sudo}docker stop ${holder.name}`, `or ${other}`];
    return blocker("ports", "port-taken", `${address} is taken`, because, next);
  }
  if (!facts.network.listeners.seen) return null;
  const listener = facts.network.listeners.value.find(clashes);
  if (listener === undefined) return ok("ports", "port-free", `${address} is free`);
  const because = `${listener.process ?? "a process of another user"} listens on ${listener.address}:${listener.port}`;
  const next = [look, `end it, or ${other}`];
  return blocker("ports", "port-taken", `${address} is taken`, because, next);
}

/** Addresses of the node that a bind address answers on, as seen from outside. */
function reachableOn(bind: string, { addresses }: NodeNetwork): string[] {
  if (!isWildcard(bind)) return [bind];
  const own = addresses.seen ? addresses.value.filter((each) => !innerInterface.test(each.interface)) : [];
  return own.map(({ address }) => address).filter((address) => !isLoopback(address) && !/^fe80:/i.test(address));
}

/** Whether the administrator's rules in DOCKER-USER keep others from a port on addresses; Docker itself leaves the chain empty. */
function isRefused({ port, inside }: Pick<Door, "port" | "inside">, on: readonly string[], network: NodeNetwork): boolean {
  const { dockerUser, addresses } = network;
  const known = addresses.seen ? addresses.value.filter(({ address }) => on.includes(address)) : [];
  const interfaces = known.map((each) => each.interface).filter((name) => name !== "");
  return dockerUser.seen && refusesEverybody(dockerUser.value, { port, inside, interfaces });
}

/**
 * What Docker publishes passes by ufw and by firewalld's zones: its rules come first. Only DOCKER-USER, an address that outsiders
 * cannot reach, or a firewall in front of the node keeps them away.
 */
function checkExposure({ network }: NodeFacts, needs: NodeNeeds): DoctorFinding[] {
  const { bind, allow } = needs;
  const all = doorsOf(needs);
  if (isLoopback(bind) || all.length === 0) return [];
  const reached = reachableOn(bind, network);
  const open = reached.filter(isPublic);
  const unlocked = all.filter(({ keys, tls }) => !keys && !tls);
  if (open.length > 0 && unlocked.length > 0) return [publicPorts(open, unlocked, needs)];
  const wide = reached.filter((address) => isWider(address, allow));
  // An ingress with TLS and keys that nobody restricts is there for everybody.
  const doors = all.filter(({ name, tls, keys }) => !(name === "ingress" && tls && keys && allow === null));
  if (wide.length === 0 || doors.length === 0 || (allow === null && open.length === 0)) {
    const known = network.addresses.seen && checkBind(network, needs).length === 0;
    return known && wide.length === 0 ? [ok("ports", "exposure", `services answer on ${bind} only`)] : [];
  }
  const exposed = doors.filter((door) => !isRefused(door, wide, network));
  if (exposed.length === 0)
    return [ok("ports", "exposure", `services answer on ${bind}; rules in DOCKER-USER decide who reaches them`)];
  const which = exposed.length === doors.length ? "" : ` on port ${exposed.map(({ port }) => port).join(" and ")}`;
  const who = allow === null ? "everybody" : `others than ${allow.join(", ")}`;
  const clear = open.length > 0 && exposed.some(({ tls }) => !tls) ? "; without TLS others can read keys on their way" : "";
  const because = `${wide.join(", ")} can be reached by ${who}${which}${ufwNote(network)}${clear}`;
  return [warning("ports", "port-exposed", `services answer on ${bind}`, because, exposureSteps(exposed, needs))];
}

function publicPorts(open: readonly string[], unlocked: readonly Door[], { bind, ingress }: NodeNeeds): DoctorFinding {
  const who = unlocked.map(({ name }) => (name === "ingress" ? "what is behind the ingress" : name)).join(" and ");
  const because = `${open.join(", ")} is an address of the internet, and ${who} has no API_KEYS secret and no TLS`;
  const keys = ingress
    ? "or give the services keys; TLS ends at the ingress"
    : "or give the services keys, and the environment tls:";
  const next = ["in gpuctl.yaml: bind: the node's private address", keys];
  return blocker("ports", "port-public", `anybody could use the services on ${bind}`, because, next);
}

/** Whether an address can be reached by others than the allowed: a public one by everybody, a private one by its own network. */
function isWider(address: string, allow: NodeNeeds["allow"]): boolean {
  const everybody = address.includes(":") ? "::/0" : "0.0.0.0/0";
  if (allow !== null && within(everybody, allow)) return false;
  return isPublic(address) || (allow !== null && !within(address, allow));
}

function ufwNote({ ufw, firewalld }: NodeNetwork): string {
  if (ufw.seen && ufw.value.active) return "; ufw is active, but ports that Docker publishes pass by it";
  return firewalld.seen && firewalld.value ? "; firewalld runs, but ports that Docker publishes pass by it" : "";
}

/** Inserted rules come first, so the refusal is typed before those who may pass. */
function exposureSteps(doors: readonly Door[], { allow }: NodeNeeds): string[] {
  const four = (allow ?? []).filter((network) => !network.includes(":"));
  const refuse = doors.map(
    ({ port }) => `sudo iptables -I DOCKER-USER -p tcp -m conntrack --ctorigdstport ${port} --ctdir ORIGINAL -j DROP`,
  );
  const admit = four.map((network) => `sudo iptables -I DOCKER-USER -s ${network} -j RETURN`);
  return [
    "in gpuctl.yaml: bind: the node's private address",
    "or let the provider's firewall, in front of the node, admit only those who may come",
    ...(four.length === 0 ? [] : ["or refuse on the node, where ufw cannot:", ...refuse, ...admit]),
  ];
}

/** Other people's containers that ufw seems to guard and does not. */
function checkBypass(facts: NodeFacts, needs: NodeNeeds): DoctorFinding[] {
  const { ufw } = facts.network;
  if (!ufw.seen) {
    return [warning("ports", "firewall-unknown", "the firewall cannot be read", ufw.because, ["sudo ufw status verbose"])];
  }
  if (!ufw.value.active || ufw.value.incoming === "allow") return [];
  const everywhere = reachableOn("0.0.0.0", facts.network);
  const outside = everywhere.some(isPublic) ? everywhere.filter(isPublic) : everywhere;
  const open = containersOf(facts)
    .filter((container) => !isOwn(container, needs))
    .flatMap(({ name, published }) =>
      published
        .filter(({ address, port }) => isWildcard(address) && !isRefused({ port, inside: port }, outside, facts.network))
        .map(({ port }) => `${name} on port ${port}`),
    );
  const unique = [...new Set(open)];
  if (unique.length === 0) return [];
  const because = `ufw denies what comes in, but ports that Docker publishes pass by it: ${unique.join(", ")}`;
  const next = [
    "publish them on 127.0.0.1 or on a private address",
    "or refuse in the chain DOCKER-USER: sudo iptables -S DOCKER-USER",
  ];
  return [warning("ports", "docker-bypasses-ufw", "containers can be reached in spite of ufw", because, next)];
}
