import type { ServiceName } from "../names.js";
import type { HostLayout } from "./layout.js";
import { composeProject, slotName } from "./names.js";
import type { ComposeNode, HostInstance } from "./node.js";
import { upstreamOf } from "./proxy-route.js";
import { companions } from "./render-compose.js";

/**
 * README.txt of an environment on its host: for a person with ssh and Docker, without gpuctl, in the middle of the night. Names the
 * real commands with the real names; says nothing that a switch of traffic makes untrue.
 */
export function renderReadme(node: ComposeNode, layout: HostLayout): string {
  const parts = [title(node), contents(node, layout), look(node, layout), startStop(node)];
  const movable = node.services.filter(({ instances }) => instances.length > 0);
  if (movable[0] !== undefined) parts.push(moving(layout, movable[0].service));
  if (movable.some(({ service }) => service === "index")) parts.push(ofTheIndex);
  parts.push(whatNot(layout), places(layout));
  return parts.map((part) => `${part}\n`).join("\n");
}

const title = (node: ComposeNode): string => `${node.project} / ${node.environment} on node ${node.node}
${"=".repeat(`${node.project} / ${node.environment} on node ${node.node}`.length)}

Deployed by gpuctl; this directory is all there is to it. From any machine with gpuctl and access to this host:

    gpuctl status        what runs, and what is wrong
    gpuctl repair        brings back what the last good release says
    gpuctl rollback      returns to the release before

Below is how to do without. Become root first (sudo -i) and go to this directory.`;

function contents(node: ComposeNode, layout: HostLayout): string {
  const rows = node.services.flatMap(({ service, port, instances }) => [
    `    ${service}, port ${port} on ${node.bind}`,
    ...instances.map((instance) => `        ${slotName(service, instance.slot).padEnd(14)}${describeInstance(instance)}`),
  ]);
  const beside = [
    ...(node.ingress === null
      ? []
      : [`    ingress, port ${node.ingress.port} on ${node.ingress.bind}: one address for all nodes`]),
    ...(node.redis === null ? [] : ["    redis: answers that instances share. It may be stopped at any time: then they compute"]),
  ];
  return `What is here
------------

${[...rows, ...beside].join("\n")}

Every service has two places, a and b. A new release starts in the free one and gets no requests; then the traffic moves, and
the old one stays warm for a while. Requests come in through a proxy (Caddy), which asks every place five times a second whether it
wants any. The answer is in one file for each instance:

    gates/<instance>     open: gets requests. paused: warm, gets none. closed: not yet.
                         until SECONDS behind it: that makes room for its successor, and is open again
                         once the host is up so long (cat /proc/uptime), or was rebooted.

The proxy takes the first open place in the order a, b, cpu. Project in Docker: ${composeProject(node.project, node.environment)}
Sockets of the instances and of the proxy: ${layout.run}`;
}

const describeInstance = ({ id, slot, gpu }: HostInstance): string =>
  `${id}${slot === "cpu" ? ", answers on the CPU when neither a nor b does" : gpu === null ? ", on the CPU" : `, on ${gpu}`}`;

function look(node: ComposeNode, layout: HostLayout): string {
  const first = node.services.find(({ instances }) => instances.length > 0);
  const instance = first?.instances[0];
  const scheme = node.tls.mode === "off" || node.ingressAddress !== null ? "http" : "https";
  const asked = first === undefined ? [] : [`    curl -si ${scheme}://${hostOf(node)}:${first.port}/health`];
  const logs = instance === undefined ? "proxy" : slotName(instance.service, instance.slot);
  const admin = node.services.length > 0 ? layout.proxyAdmin : layout.ingressAdmin;
  return `Look
----

    docker compose ps --all
    grep -H . gates/*
${asked.join("\n")}
    docker compose logs --tail 100 --follow ${logs}
    curl -s --unix-socket ${admin} http://localhost/reverse_proxy/upstreams
                                   requests in flight to each place, by the proxy
    nvidia-smi                     who holds the GPU`;
}

/** A certificate names the domain, not the address. */
function hostOf({ tls, bind }: ComposeNode): string {
  if (tls.mode === "acme") return tls.domain;
  const address = bind === "0.0.0.0" ? "127.0.0.1" : bind === "::" ? "::1" : bind;
  return address.includes(":") ? `[${address}]` : address;
}

/**
 * Brings back what served. Which instances those are only the gates know, as a switch of traffic does not write this file again: so
 * the shell asks them.
 */
function startAgain(node: ComposeNode): string {
  const beside = companions(node).map(({ role }) => role);
  const start = `docker compose up --detach --no-deps ${beside.join(" ")}`;
  if (node.services.length === 0) return start;
  return `${start} $(grep -lxE 'open|.* until .*' gates/* | sed -E 's|^gates/||; s/-r[0-9]+-[0-9a-f]+-/-/')
                                   brings back what served and what stands before it. Without these names the other
                                   place starts as well, and may take the GPU's memory from the one that serves`;
}

const startStop = (node: ComposeNode): string => `Stop and start
--------------

    docker compose stop            ends everything, after the requests of this moment; no data is lost
    ${startAgain(node)}
    docker compose restart ${node.services.length > 0 ? "proxy" : "ingress"}
                                   cuts the requests of this moment; the gates stay as they are

After a reboot of the host, or a restart of Docker, what served comes back by itself: also what was stopped by hand.`;

function moving(layout: HostLayout, service: ServiceName): string {
  const [a, b] = [slotName(service, "a"), slotName(service, "b")];
  return `Move traffic by hand (here: the ${service}, from a to b)
${"-".repeat(`Move traffic by hand (here: the ${service}, from a to b)`.length)}

Only between instances that are listed above. No request is lost when it is done in this order:

    docker compose up --detach --no-deps ${b}
    docker compose ps ${b}         wait for (healthy); loading a model takes minutes
    echo open > gates/<instance in b>
    sleep 3                                the proxy has asked by then
    echo paused > gates/<instance in a>
    sleep 3
    curl -s --unix-socket ${layout.proxyAdmin} http://localhost/reverse_proxy/upstreams
                                           wait until num_requests of ${upstreamOf(service, "a")} is 0
    docker compose stop ${a}        only if its memory is needed

gpuctl's records do not know of this: gpuctl status will call it drift, and gpuctl repair will undo it.`;
}

const ofTheIndex = `The index
---------

One instance of the index writes (index/writer.lock names it), the other follows it. A gate moves who answers; it does not move
who writes, and writes are passed on. Never run two indexes on copies of the directory index/. Offline:

    docker compose run --rm --no-deps index-a python3 -m gpuctl_serving.index.tool verify --index-dir /gpuctl/index`;

const whatNot = (layout: HostLayout): string => `Leave alone
-----------

    compose.yaml, proxy/, ingress/     the next deploy replaces them; what you change is lost
    ${layout.releases}, secrets/
                                       records and secret values; root only
    docker compose down                removes the containers, and with them the way back to the old release`;

const places = (layout: HostLayout): string => `Everything of this environment is below ${layout.root},
but for the models: those are Docker volumes named gpuctl-model_…, shared by all environments of this host.`;
