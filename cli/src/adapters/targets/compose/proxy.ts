import { sha256 } from "../../../domain/canonical.js";
import { Failed } from "../../../domain/errors.js";
import { composeCommand, layoutOf } from "../../../domain/compose/host-files.js";
import { adminSocket, directoryCaFile, inside } from "../../../domain/compose/inside.js";
import { configLabel } from "../../../domain/compose/labels.js";
import { companionName, companionRoles, companions, type Companion } from "../../../domain/compose/render-compose.js";
import type { ComposeNode } from "../../../domain/compose/node.js";
import { restartText } from "../../../domain/operations.js";
import { ms } from "../../../domain/units.js";
import type { Clock, Lease } from "../../../ports.js";
import type { HostCommands } from "./host-commands.js";
import type { HostHttp } from "./host-http.js";
import type { NodeRehearsal } from "./rehearsal.js";

const upDeadline = ms(120_000);
const pollMs = ms(100);
const up = ["up", "--detach", "--no-deps", "--no-build", "--pull", "never"] as const;
const answersWithinMs = 20_000;

/** What a proxy reads when it starts or is told to. */
const configFiles = ["Caddyfile", "tls.crt", "tls.key", directoryCaFile] as const;

/**
 * Arguments: TOLD DIRECTORY CONTAINER, again and again. A line each: what the Caddy of a directory was told last, the hash of what
 * lies there now, and whether its container runs, of what configuration it is, its id and its start: another one means that it was made
 * or started anew. What has no configuration of its own has no directory.
 */
const looking = `while [ $# -gt 0 ]; do
  cat "$1" 2>/dev/null | tr -d '\\n'; echo
  cat ${configFiles.map((name) => `"$2/${name}"`).join(" ")} 2>/dev/null | sha256sum | cut -c1-64
  docker inspect --format '{{.State.Running}} {{index .Config.Labels "${configLabel}"}} {{.Id}} {{.State.StartedAt}}' "$3" 2>/dev/null || echo none
  shift 3
done`;

interface Parts {
  commands: HostCommands;
  http: HostHttp;
  clock: Clock;
}

/**
 * Makes sure that the proxies run as compose.yaml says, and with them what else stands beside the instances. One that runs as it
 * should is not touched; a changed Caddyfile or certificate is taken over without ending a request.
 */
export async function ensureProxies(parts: Parts, node: ComposeNode, lease: Lease): Promise<void> {
  const { commands } = parts;
  const wanted = companions(node);
  await endUnwanted(commands, node, wanted, lease);
  if (wanted.length === 0) return;
  const before = await lookAt(commands, node, wanted);
  const upToDate = before.every(({ companion, container }) => container.startsWith(`true ${companion.hash} `));
  if (commands.rehearsal !== null && wanted.every(({ container, hash }) => commands.rehearsal?.made.get(container) === hash))
    return;
  if (!upToDate)
    await commands.change(lease, {
      text: `"$@" >&2`,
      args: [...composeCommand(node), ...up, ...wanted.map(({ role }) => role)],
      failure: `${wanted.map(({ role }) => role).join(" and ")} could not be started`,
      deadline: upDeadline,
    });
  if (commands.rehearsal !== null && !upToDate) {
    rehearsed(commands.rehearsal, before);
    return;
  }
  const proxies = wanted.filter(({ role }) => role !== "redis");
  for (const proxy of proxies) await answering(parts, node, proxy);
  const now = upToDate ? before : await lookAt(commands, node, wanted);
  for (const [position, seen] of now.entries())
    if (seen.companion.role !== "redis") await tell(commands, seen, before[position]?.container !== seen.container, lease);
}

/** What a dry run says in place of waiting, and remembers for whoever asks once more. */
function rehearsed(rehearsal: NodeRehearsal, before: readonly Seen[]): void {
  const anew = before.filter(({ companion, container }) => {
    const runs = companion.role !== "redis" && container.startsWith("true ");
    return runs && !container.startsWith(`true ${companion.hash} `);
  });
  if (anew.length > 0) rehearsal.note(restartText(anew.map(({ companion: { role } }) => `${role} of ${rehearsal.node}`)));
  rehearsal.note("wait      until the proxy answers, and write down what it was told");
  for (const { companion } of before) rehearsal.made.set(companion.container, companion.hash);
}

/** What gpuctl.yaml has no more of gives its ports and its memory back: a proxy without a service, an ingress, a Redis. */
async function endUnwanted(commands: HostCommands, node: ComposeNode, wanted: readonly Companion[], lease: Lease): Promise<void> {
  const unwanted = companionRoles.filter((each) => !wanted.some(({ role }) => role === each));
  const found = await commands.look({
    text: `for c in "$@"; do docker inspect --format "$c" "$c" 2>/dev/null; done; exit 0`,
    args: unwanted.map((role) => companionName(node, role)),
    failure: "what is not needed any more could not be looked for",
  });
  const ended = commands.rehearsal?.ended ?? new Set<string>();
  const names = found.split("\n").filter((line) => line !== "" && !ended.has(line));
  if (names.length === 0) return;
  for (const name of names) ended.add(name);
  const failure = `${names.join(" and ")} could not be removed`;
  await commands.change(lease, { text: 'docker rm --force "$@" >/dev/null', args: names, failure });
}

interface Seen {
  companion: Companion;
  /** Configuration and process that were told last. */
  told: string;
  config: string;
  container: string;
  toldFile: string;
}

/** @param fresh  one that was started since has read its files by itself */
async function tell(commands: HostCommands, seen: Seen, fresh: boolean, lease: Lease): Promise<void> {
  const telling = `${seen.config} ${seen.container}`;
  if (seen.told === telling) return;
  if (!fresh) await reload(commands, seen.companion.container, lease);
  await commands.write(lease, { path: seen.toldFile, content: `${telling}\n`, mode: 0o600, owner: "0:0" });
}

async function lookAt(commands: HostCommands, node: ComposeNode, wanted: readonly Companion[]): Promise<readonly Seen[]> {
  const layout = layoutOf(node);
  // It outlives a command that was ended between writing the configuration and telling the proxy.
  const toldFile = ({ role }: Companion): string => `${layout.root}/${role}-told`;
  const args = wanted.flatMap((companion) => [toldFile(companion), `${layout.root}/${companion.role}`, companion.container]);
  const lines = (await commands.look({ text: looking, args, failure: "the proxy could not be looked at" })).split("\n");
  return wanted.map((companion, position) => {
    const [told = "", config = "", container = "none"] = lines.slice(3 * position, 3 * position + 3);
    const seen = { companion, told, config, container, toldFile: toldFile(companion) };
    return commands.rehearsal === null ? seen : asRehearsed(commands.rehearsal, seen, `${layout.root}/${companion.role}`);
  });
}

/** With the files that a dry run would have written by then. */
function asRehearsed({ places }: NodeRehearsal, seen: Seen, directory: string): Seen {
  const written = configFiles.flatMap((name) => places.get(`${directory}/${name}`)?.facts ?? []);
  return {
    ...seen,
    told: places.get(seen.toldFile)?.content?.trimEnd() ?? seen.told,
    config: written.length === 0 ? seen.config : sha256(written.join("\n")),
  };
}

async function answering({ commands, http, clock }: Parts, node: ComposeNode, { role, container }: Companion): Promise<void> {
  const { proxyAdmin, ingressAdmin } = layoutOf(node);
  const began = clock.monotonic();
  while ((await http.upstreams(role === "ingress" ? ingressAdmin : proxyAdmin)) === null) {
    if (clock.monotonic() - began > answersWithinMs) throw await silent(commands, container);
    await clock.sleep(pollMs);
  }
}

/** By force: a certificate that was replaced has the same name as before, and the rest may be as it was. */
async function reload(commands: HostCommands, name: string, lease: Lease): Promise<void> {
  const file = `${inside.proxyConfig}/Caddyfile`;
  const address = `unix/${inside.proxyRun}/${adminSocket}`;
  await commands.change(lease, {
    text: `docker exec "$1" caddy reload --force --config "$2" --adapter caddyfile --address "$3" >&2`,
    args: [name, file, address],
    failure: "the proxy does not take its new configuration, and goes on with the one before",
  });
}

async function silent(commands: HostCommands, name: string): Promise<Failed> {
  const { stdout, stderr } = await commands.attempt({ argv: ["docker", "logs", "--tail", "5", name] });
  return new Failed(`the proxy on ${commands.node} does not answer`, {
    because: `${stdout}${stderr}`.trim().split("\n").slice(-2).join("; ") || "it said nothing",
    nextSteps: [`docker logs ${name}   # on ${commands.node}`, "gpuctl doctor"],
  });
}
