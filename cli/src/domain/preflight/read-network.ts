import type { Answer, Answers } from "./answers.js";
import { seen, unseen, type Listener, type NodeAddress, type NodeNetwork, type Seen } from "./facts.js";
import { lines, stdoutOf } from "./read-machine.js";

/** Who listens, where the node can be reached, and what filters. */
export function readNetwork(answers: Answers): NodeNetwork {
  return {
    listeners: readListeners(answers),
    addresses: readAddresses(answers),
    ufw: readUfw(answers.of("ufw")),
    dockerUser: readDockerUser(answers.of("docker-user")),
    firewalld: readFirewalld(answers.of("firewalld")),
  };
}

/** By `ss`, which names the owners; without it by the kernel's tables, which do not. */
function readListeners(answers: Answers): Seen<Listener[]> {
  const ss = stdoutOf(answers.of("listeners"), "ss");
  if (ss.seen) return seen(lines(ss.value).flatMap(ssListener));
  const tables = stdoutOf(answers.of("listeners-proc"), "/proc/net/tcp");
  return tables.seen ? seen(lines(tables.value).flatMap(procListener)) : ss;
}

/** `LISTEN 0 128 127.0.0.53%lo:53 0.0.0.0:* users:(("systemd-resolve",pid=812,fd=14))`. */
function ssListener(line: string): Listener[] {
  const [state, , , local = "", , owner = ""] = line.split(/\s+/);
  const match = /^(.*):(\d{1,5})$/.exec(local);
  if (state !== "LISTEN" || match === null) return [];
  const who = /\(\("((?:[^"\\]|\\.)*)",pid=(\d+)/.exec(owner);
  const process = who === null ? null : `${who[1] ?? ""} (pid ${who[2] ?? ""})`;
  return [{ address: plainAddress(match[1] ?? ""), port: Number(match[2]), process }];
}

/** Without brackets, zone and the prefix of IPv4 in IPv6; `*` is every address of both families. */
function plainAddress(text: string): string {
  const bare = text.replace(/%[^\]]*/, "").replaceAll(/[[\]]/g, "");
  if (bare === "*") return "::";
  return bare.replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, "");
}

/** `0100007F:1F41`: each 32-bit word in the order of a little-endian machine. */
function procListener(line: string): Listener[] {
  const match = /^([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4})$/i.exec(line);
  if (match === null) return [];
  const words = (match[1] ?? "").match(/.{8}/g) ?? [];
  const bytes = words.flatMap((word) => (word.match(/../g) ?? []).reverse().map((byte) => parseInt(byte, 16)));
  const groups = Array.from({ length: 8 }, (_, i) => ((bytes[2 * i] ?? 0) * 256 + (bytes[2 * i + 1] ?? 0)).toString(16));
  const mapped = groups.slice(0, 6).join(":") === "0:0:0:0:0:ffff";
  const long = bytes.length === 16;
  const address = long && !mapped ? shortened(groups) : bytes.slice(long ? 12 : 0).join(".");
  return [{ address, port: parseInt(match[2] ?? "", 16), process: null }];
}

function shortened(groups: readonly string[]): string {
  const text = groups.join(":");
  if (text === "0:0:0:0:0:0:0:0") return "::";
  return text === "0:0:0:0:0:0:0:1" ? "::1" : text;
}

function readAddresses(answers: Answers): Seen<NodeAddress[]> {
  const answer = stdoutOf(answers.of("addresses"), "ip");
  if (!answer.seen) return answer;
  const named = lines(answer.value).flatMap((line) => {
    const match = /^\d+:\s+(\S+?)(?:@\S+)?\s+inet6?\s+([0-9a-fA-F.:]+)/.exec(line);
    return match === null ? [] : [{ interface: match[1] ?? "", address: match[2] ?? "" }];
  });
  if (named.length > 0) return seen(named);
  const bare = answer.value.split(/\s+/).filter((word) => /^(?:\d+\.\d+\.\d+\.\d+|[0-9a-fA-F]*:[0-9a-fA-F:.]+)$/.test(word));
  return bare.length > 0 ? seen(bare.map((address) => ({ interface: "", address }))) : unseen("ip lists no address");
}

function readUfw(answer: Answer): NodeNetwork["ufw"] {
  if (answer.state === "answered" && answer.code === 127) return seen({ active: false, incoming: null });
  const said = stdoutOf(answer, "ufw");
  if (!said.seen) return said;
  const status = /^Status:\s*(active|inactive)/im.exec(said.value)?.[1];
  if (status === undefined) return unseen("ufw says no status");
  const incoming = /^Default:\s*(allow|deny|reject) \(incoming\)/im.exec(said.value)?.[1];
  return seen({ active: status.toLowerCase() === "active", incoming: policies.find((policy) => policy === incoming) ?? null });
}

const policies = ["allow", "deny", "reject"] as const;

function readDockerUser(answer: Answer): NodeNetwork["dockerUser"] {
  if (answer.state === "answered" && /No chain\/target\/match|does not exist|incompatible, use 'nft'/i.test(answer.stderr))
    return seen([]);
  const said = stdoutOf(answer, "iptables");
  return said.seen ? seen(lines(said.value).filter((line) => line.startsWith("-A DOCKER-USER"))) : said;
}

/** `running` with status 0, `not running` with 252. */
function readFirewalld(answer: Answer): Seen<boolean> {
  if (answer.state !== "answered") return stdoutOf(answer, "firewall-cmd") as { seen: false; because: string };
  if (answer.code === 127 || answer.code === 252) return seen(false);
  const said = stdoutOf(answer, "firewall-cmd");
  return said.seen ? seen(said.value.trim() === "running") : said;
}
