import { Failed } from "../../../domain/errors.js";
import { composeCommand, layoutOf } from "../../../domain/compose/host-files.js";
import { adminSocket, inside } from "../../../domain/compose/inside.js";
import { composeProject } from "../../../domain/compose/names.js";
import type { ComposeNode } from "../../../domain/compose/node.js";
import { ms } from "../../../domain/units.js";
import type { Clock, Lease } from "../../../ports.js";
import type { HostCommands } from "./host-commands.js";
import type { HostHttp } from "./host-http.js";

const upDeadline = ms(120_000);
const pollMs = ms(100);
const answersWithinMs = 20_000;

/** Prints the container of a name, and its start: another one means that it was made or started anew. */
const identity = `docker inspect --format '{{.Id}} {{.State.StartedAt}}' "$1" 2>/dev/null || true`;

/**
 * Makes sure that the proxy runs as compose.yaml says, and with it what else stands beside the instances. One that runs as it should
 * is not touched; a changed Caddyfile is taken over without ending a connection.
 */
export async function ensureProxy(
  parts: { commands: HostCommands; http: HostHttp; clock: Clock },
  node: ComposeNode,
  changed: readonly string[],
  lease: Lease,
): Promise<void> {
  const { commands, http, clock } = parts;
  const layout = layoutOf(node);
  const name = `${composeProject(node.project, node.environment)}_proxy`;
  const who = { text: identity, args: [name], failure: "the proxy could not be looked at" };
  const before = (await commands.look(who)).trim();
  const companions = [
    ...(node.services.length > 0 ? ["proxy"] : []),
    ...(node.ingress === null ? [] : ["ingress"]),
    ...(node.redis === null ? [] : ["redis"]),
  ];
  const up = [...composeCommand(node), "up", "--detach", "--no-deps", "--no-build", "--pull", "never", ...companions];
  await commands.change(lease, {
    text: `"$@" >&2`,
    args: up,
    failure: "the proxy could not be started",
    deadline: upDeadline,
  });
  if (node.services.length === 0) return;
  const began = clock.monotonic();
  while ((await http.upstreams(layout.proxyAdmin)) === null) {
    if (clock.monotonic() - began > answersWithinMs) throw await silent(commands, name);
    await clock.sleep(pollMs);
  }
  if (before !== "" && before === (await commands.look(who)).trim() && changed.includes(layout.proxyFile))
    await reload(commands, name, lease);
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
