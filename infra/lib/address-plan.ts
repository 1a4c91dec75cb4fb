import { createHash } from "node:crypto";
import { addressAt, contains, networkText, overlaps, parseNetwork, size, type Network } from "./cidr.js";

/** Hosts get the numbers 10 to 249 of their subnet: the first ones are the provider's, the rest is left for other things. */
export const firstNumber = 10;
export const lastNumber = 249;

export interface PlanRequest {
  /** The private network, such as `10.20.0.0/16`. */
  range: string;
  /** Subnet of cloud servers; null for the second /24 of the range. */
  cloud: string | null;
  /** Subnet behind a vSwitch; null for none. */
  vswitch: string | null;
  /** Hosts of the cloud subnet; `number` null for one made from the name. */
  hosts: readonly { name: string; number: number | null }[];
}

export interface AddressPlan {
  range: string;
  cloud: string;
  vswitch: string | null;
  /** Private address of each host. */
  addresses: Readonly<Record<string, string>>;
}

/** What is wrong: `path` below `gpuctl:`, such as `network.cloud` or `nodes.a.number`. */
export interface PlanProblem {
  path: string;
  message: string;
}

/**
 * Subnets and addresses of a stack. A host's number comes from its name alone, so that adding or removing another one moves nobody:
 * two names that meet are a problem with a simple end (a `number` in the configuration), not a reason to move one of them.
 */
export function planAddresses(request: PlanRequest): { plan: AddressPlan | null; problems: PlanProblem[] } {
  const range = parseNetwork(request.range);
  if (range?.family !== 4 || range.prefix > 23 || range.prefix < 8)
    return failed("network.range", "expected an IPv4 network from /8 to /23, such as 10.20.0.0/16");
  const cloud = request.cloud === null ? secondBlock(range) : parseNetwork(request.cloud);
  if (cloud?.family !== 4 || cloud.prefix > 24 || !contains(range, cloud))
    return failed("network.cloud", `expected a network inside ${request.range} of at least 256 addresses (/24)`);
  const vswitch = request.vswitch === null ? null : parseNetwork(request.vswitch);
  if (request.vswitch !== null && (vswitch?.family !== 4 || !contains(range, vswitch)))
    return failed("network.vswitch.range", `expected a network inside ${request.range}`);
  if (vswitch !== null && overlaps(cloud, vswitch))
    return failed("network.vswitch.range", `${networkText(vswitch)} overlaps the subnet of cloud servers, ${networkText(cloud)}`);
  const { numbers, problems } = numberHosts(request.hosts);
  if (problems.length > 0) return { plan: null, problems };
  const addresses = Object.fromEntries([...numbers].map(([name, number]) => [name, addressAt(cloud, number)]));
  const plan = {
    range: request.range,
    cloud: networkText(cloud),
    vswitch: vswitch === null ? null : networkText(vswitch),
    addresses,
  };
  return { plan, problems: [] };
}

function numberHosts(hosts: PlanRequest["hosts"]): { numbers: Map<string, number>; problems: PlanProblem[] } {
  const owners = new Map<number, string>();
  const problems: PlanProblem[] = [];
  for (const { name, number: wished } of hosts) {
    const number = wished ?? numberOf(name);
    const other = owners.get(number);
    if (other === undefined) owners.set(number, name);
    else
      problems.push({
        path: `nodes.${name}.number`,
        message: `${name} and ${other} would both be host ${number} of the subnet; give one of them another \`number\` (${firstNumber} to ${lastNumber})`,
      });
  }
  return { numbers: new Map([...owners].map(([number, name]) => [name, number])), problems };
}

function numberOf(name: string): number {
  const hash = createHash("sha256").update(name).digest().readUInt32BE(0);
  return firstNumber + (hash % (lastNumber - firstNumber + 1));
}

/** The second /24: the first one holds the network's gateway. */
const secondBlock = (range: Network): Network | null =>
  size(range) < 512n ? null : { family: 4, first: range.first + 256n, prefix: 24 };

const failed = (path: string, message: string) => ({ plan: null, problems: [{ path, message }] });
