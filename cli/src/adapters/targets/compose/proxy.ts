import { Failed } from "../../../domain/errors.js";
import { composeCommand, layoutOf } from "../../../domain/compose/host-files.js";
import { adminSocket, inside } from "../../../domain/compose/inside.js";
import { configLabel } from "../../../domain/compose/labels.js";
import type { HostLayout } from "../../../domain/compose/layout.js";
import { composeProject } from "../../../domain/compose/names.js";
import { renderProxyCaddyfile } from "../../../domain/compose/render-caddyfile.js";
import { companions, type Companion } from "../../../domain/compose/render-compose.js";
import { sha256 } from "../../../domain/canonical.js";
import type { ComposeNode } from "../../../domain/compose/node.js";
import { ms } from "../../../domain/units.js";
import type { Clock, Lease } from "../../../ports.js";
import type { HostCommands } from "./host-commands.js";
import type { HostHttp } from "./host-http.js";

const upDeadline = ms(120_000);
const pollMs = ms(100);
const up = ["up", "--detach", "--no-deps", "--no-build", "--pull", "never"] as const;
const answersWithinMs = 20_000;

/**
 * Arguments: FILE NAME…. Prints what the proxy was told last, then for each container whether it runs and of what configuration it
 * is, its id and its start: another one means that it was made or started anew.
 */
const looking = `head -n 1 "$1" 2>/dev/null || echo none; shift
for name in "$@"; do
  docker inspect --format '{{.State.Running}} {{index .Config.Labels "${configLabel}"}} {{.Id}} {{.State.StartedAt}}' "$name" 2>/dev/null || echo none
done`;

/**
 * Makes sure that the proxy runs as compose.yaml says, and with it what else stands beside the instances. One that runs as it should
 * is not touched; a changed Caddyfile is taken over without ending a connection.
 */
export async function ensureProxy(
  parts: { commands: HostCommands; http: HostHttp; clock: Clock },
  node: ComposeNode,
  lease: Lease,
): Promise<void> {
  const { commands, http, clock } = parts;
  const layout = layoutOf(node);
  const wanted = companions(node);
  const look = (): Promise<Seen> => lookAt(commands, layout, wanted);
  const before = await look();
  const upToDate = wanted.every(({ hash }, position) => before.containers[position]?.startsWith(`true ${hash} `));
  if (!upToDate)
    await commands.change(lease, {
      text: `"$@" >&2`,
      args: [...composeCommand(node), ...up, ...wanted.map(({ role }) => role)],
      failure: "the proxy could not be started",
      deadline: upDeadline,
    });
  const [proxy] = wanted;
  if (node.services.length === 0) await endProxy(commands, node, lease);
  if (node.services.length === 0 || proxy === undefined) return;
  const began = clock.monotonic();
  while ((await http.upstreams(layout.proxyAdmin)) === null) {
    if (clock.monotonic() - began > answersWithinMs) throw await silent(commands, proxy.container);
    await clock.sleep(pollMs);
  }
  const now = upToDate ? before : await look();
  const told = `${sha256(renderProxyCaddyfile(node))} ${now.containers[0] ?? ""}`;
  if (now.told === told) return;
  // One that was started since has read the file by itself.
  if (now.containers[0] === before.containers[0]) await reload(commands, proxy.container, lease);
  await commands.write(lease, { path: toldFile(layout), content: `${told}\n`, mode: 0o600, owner: "0:0" });
}

/** Where no service is to run (any more) its ports are given back. */
async function endProxy(commands: HostCommands, node: ComposeNode, lease: Lease): Promise<void> {
  await commands.change(lease, {
    text: `if docker inspect "$1" >/dev/null 2>&1; then docker rm --force "$1" >/dev/null; fi`,
    args: [`${composeProject(node.project, node.environment)}_proxy`],
    failure: "the proxy that no service needs any more could not be removed",
  });
}

interface Seen {
  /** Configuration and process that were told last. */
  told: string;
  /** A line for each companion, the proxy's first. */
  containers: readonly string[];
}

/** Outlives a command that was ended between writing the configuration and telling the proxy. */
const toldFile = ({ root }: HostLayout): string => `${root}/proxy-told`;

async function lookAt(commands: HostCommands, layout: HostLayout, wanted: readonly Companion[]): Promise<Seen> {
  const args = [toldFile(layout), ...wanted.map(({ container }) => container)];
  const said = await commands.look({ text: looking, args, failure: "the proxy could not be looked at" });
  const [told = "none", ...containers] = said.split("\n");
  return { told, containers };
}

async function reload(commands: HostCommands, name: string, lease: Lease): Promise<void> {
  const file = `${inside.proxyConfig}/Caddyfile`;
  const address = `unix/${inside.proxyRun}/${adminSocket}`;
  await commands.change(lease, {
    text: `docker exec "$1" caddy reload --config "$2" --adapter caddyfile --address "$3" >&2`,
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
