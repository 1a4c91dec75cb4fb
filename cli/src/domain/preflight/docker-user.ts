/** A published port as packets for it come by DOCKER-USER: after Docker has turned them to the container. */
export interface Passage {
  /** As it is published. */
  port: number;
  /** As the container knows it. */
  inside: number;
  /** Interfaces by which others reach it; none where nobody knows. */
  interfaces: readonly string[];
}

interface Option {
  name: string;
  value: string;
  negated: boolean;
}

/** Bridges of containers and virtual machines: only what runs on the node itself comes in by them. */
export const innerInterface = /^(?:docker|br-|veth|virbr|cni|podman)/;

/**
 * Whether rules of DOCKER-USER, as `iptables -S` prints them, keep everybody from a port who is not admitted one by one: the first rule
 * that is for everybody decides. A rule with a condition that is not known here counts for nothing.
 */
export function refusesEverybody(rules: readonly string[], passage: Passage): boolean {
  for (const rule of rules) {
    const options = optionsOf(rule);
    const target = options.find(({ name }) => name === "-j")?.value ?? "";
    if (!/^(?:DROP|REJECT|RETURN|ACCEPT)$/.test(target)) continue;
    if (options.every((option) => meets(option, passage))) return target === "DROP" || target === "REJECT";
  }
  return false;
}

function optionsOf(rule: string): Option[] {
  const words = rule.match(/"(?:[^"\\]|\\.)*"|\S+/g) ?? [];
  return words.flatMap((name, position) => {
    if (!/^--?[a-z]/i.test(name) || name === "-A") return [];
    return [{ name, value: words[position + 1] ?? "", negated: words[position - 1] === "!" }];
  });
}

/** Whether an option lets the packets of everybody to a port through to the rule's target. */
function meets({ name, value, negated }: Option, { port, inside, interfaces }: Passage): boolean {
  switch (name) {
    case "-j":
    case "-m":
    case "--comment":
    case "--reject-with":
      return true;
    case "-p":
      return !negated && /^(?:tcp|all)$/.test(value);
    case "--ctdir":
      return value === "ORIGINAL";
    case "--ctstate":
    case "--state":
      return value.split(",").includes("NEW") !== negated;
    case "--ctorigdstport":
      return covers(value, port) !== negated;
    case "--dport":
    case "--dports":
      return covers(value, inside) !== negated;
    case "-i":
      return meetsInterface(value, negated, interfaces);
    case "-s":
      return negated;
    default:
      return false;
  }
}

/** `8001`, `8001,8002` and `8001:8003`. */
const covers = (ports: string, port: number): boolean =>
  ports.split(",").some((part) => {
    const [first = NaN, last = first] = part.split(":").map(Number);
    return first <= port && port <= last;
  });

function meetsInterface(value: string, negated: boolean, interfaces: readonly string[]): boolean {
  const is = (name: string): boolean => (value.endsWith("+") ? name.startsWith(value.slice(0, -1)) : name === value);
  if (interfaces.length === 0) return innerInterface.test(value) === negated;
  return interfaces.every((name) => is(name) !== negated);
}
