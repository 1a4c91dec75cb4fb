import { blocker, ok, warning, type DoctorFinding } from "../doctor/finding.js";
import { commandsFor } from "./commands.js";
import type { Container, NodeFacts, NodeNetwork, Published } from "./facts.js";
import { isOwn, type NodeNeeds, type ServiceNeeds } from "./needs.js";
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
  const findings = needs.services.map((service) => checkPort(service, facts, needs)).filter((finding) => finding !== null);
  if (listeners.seen) return findings;
  const because = `${listeners.because}; only ports of containers are known`;
  return [...findings, warning("ports", "listeners-unknown", "listening ports cannot be read", because, ["ss -ltnp"])];
}

/** Null where listeners cannot be read and no container is in the way: then nobody knows. */
function checkPort({ name, port }: ServiceNeeds, facts: NodeFacts, needs: NodeNeeds): DoctorFinding | null {
  const address = `${name} on ${needs.bind}:${port}`;
  const clashes = (one: Published): boolean => one.port === port && collides(one.address, needs.bind);
  const holder = containersOf(facts).find(({ published }) => published.some(clashes));
  if (holder !== undefined && isOwn(holder, needs)) return ok("ports", "port-ours", `${address} is held by this environment`);
  const { sudo } = commandsFor(facts);
  const look = `${sudo}ss -ltnp 'sport = :${port}'`;
  if (holder !== undefined) {
    const because = `the container ${holder.name} (${holder.image}) publishes it`;
    const next = [`${sudo}docker stop ${holder.name}`, "or choose another port for the service in gpuctl.yaml"];
    return blocker("ports", "port-taken", `${address} is taken`, because, next);
  }
  if (!facts.network.listeners.seen) return null;
  const listener = facts.network.listeners.value.find(clashes);
  if (listener === undefined) return ok("ports", "port-free", `${address} is free`);
  const because = `${listener.process ?? "a process of another user"} listens on ${listener.address}:${listener.port}`;
  const next = [look, "end it, or choose another port for the service in gpuctl.yaml"];
  return blocker("ports", "port-taken", `${address} is taken`, because, next);
}

/** Bridges of containers and virtual machines: only what runs on the node itself comes in by them. */
const inner = /^(?:docker|br-|veth|virbr|cni|podman)/;

/** Addresses of the node that a bind address answers on, as seen from outside. */
function reachableOn(bind: string, { addresses }: NodeNetwork): string[] {
  if (!isWildcard(bind)) return [bind];
  const own = addresses.seen ? addresses.value.filter((each) => !inner.test(each.interface)) : [];
  return own.map(({ address }) => address).filter((address) => !isLoopback(address) && !/^fe80:/i.test(address));
}

/** Rules of the administrator in DOCKER-USER that refuse something; Docker itself leaves the chain empty, or with a bare RETURN. */
const refusals = ({ dockerUser }: NodeNetwork): boolean =>
  dockerUser.seen && dockerUser.value.some((rule) => /-j (?:DROP|REJECT)\b/.test(rule));

/**
 * What Docker publishes passes by ufw and by firewalld's zones: its rules come first. Only DOCKER-USER, an address that outsiders
 * cannot reach, or a firewall in front of the node keeps them away.
 */
function checkExposure({ network }: NodeFacts, needs: NodeNeeds): DoctorFinding[] {
  const { bind, allow, tls, services } = needs;
  if (isLoopback(bind) || services.length === 0) return [];
  const open = reachableOn(bind, network).filter(isPublic);
  const unlocked = services.filter(({ keys }) => !keys);
  if (open.length > 0 && !tls && unlocked.length > 0) {
    const because = `${open.join(", ")} is an address of the internet, and ${unlocked.map(({ name }) => name).join(" and ")} has no API_KEYS secret and no TLS`;
    const next = ["in gpuctl.yaml: bind: the node's private address", "or give the services keys, and the environment tls:"];
    return [blocker("ports", "port-public", `anybody could use the services on ${bind}`, because, next)];
  }
  const wide = reachableOn(bind, network).filter((address) => isWider(address, allow));
  if (wide.length === 0 || (allow === null && open.length === 0)) {
    const known = network.addresses.seen && checkBind(network, needs).length === 0;
    return known ? [ok("ports", "exposure", `services answer on ${bind} only`)] : [];
  }
  const allowed = allow === null ? "everybody" : allow.join(", ");
  if (refusals(network))
    return [ok("ports", "exposure", `services answer on ${bind}; rules in DOCKER-USER decide who reaches them`)];
  const because = `${wide.join(", ")} can be reached by others than ${allowed}${ufwNote(network)}`;
  return [warning("ports", "port-exposed", `services answer on ${bind}`, because, exposureSteps(needs))];
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
function exposureSteps({ services, allow }: NodeNeeds): string[] {
  const four = (allow ?? []).filter((network) => !network.includes(":"));
  const refuse = services.map(
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
  if (!ufw.value.active || ufw.value.incoming === "allow" || refusals(facts.network)) return [];
  const open = containersOf(facts)
    .filter((container) => !isOwn(container, needs))
    .flatMap(({ name, published }) =>
      published.filter(({ address }) => isWildcard(address)).map(({ port }) => `${name} on port ${port}`),
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
