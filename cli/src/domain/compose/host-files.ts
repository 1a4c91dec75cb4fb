import { containerUser, inside, insidePort, privateSocketInside, sockets } from "./inside.js";
import { HostLayout } from "./layout.js";
import { composeProject, slotName } from "./names.js";
import type { ComposeNode, HostInstance } from "./node.js";
import { renderIngressCaddyfile, renderProxyCaddyfile } from "./render-caddyfile.js";
import { renderCompose } from "./render-compose.js";
import { renderReadme } from "./render-readme.js";
import { lingerMs } from "./traffic.js";

/** A directory that must be there, with its mode and its owner as `uid:gid`, before a container is started. */
export interface HostDirectory {
  path: string;
  mode: number;
  owner: string;
}

/** A file as it must be. Written beside and renamed, so that nobody reads half of it. */
export interface HostFile extends HostDirectory {
  content: string;
}

const root = "0:0";

/**
 * Directories of an environment on its host, parents first. What containers write or alone may read belongs to their user; what
 * people read is readable; records and secrets are root's.
 */
export function hostDirectories(node: ComposeNode): readonly HostDirectory[] {
  const layout = layoutOf(node);
  const open = (path: string): HostDirectory => ({ path, mode: 0o755, owner: root });
  const theirs = (path: string): HostDirectory => ({ path, mode: 0o700, owner: containerUser });
  const closed = (path: string): HostDirectory => ({ path, mode: 0o700, owner: root });
  const instances = node.services.flatMap(({ instances: all }) => all);
  const outside = layout.run.startsWith(`${layout.root}/`) ? [] : [open(layout.run.slice(0, layout.run.lastIndexOf("/")))];
  return [
    open(layout.root),
    ...outside,
    { path: layout.run, mode: 0o711, owner: containerUser },
    open(layout.gates),
    closed(layout.releases),
    closed(layout.secrets),
    ...(node.services.length === 0 ? [] : [open(layout.proxy), theirs(layout.proxyData), theirs(layout.proxyRun)]),
    ...(node.ingress === null ? [] : [open(layout.ingress), theirs(layout.ingressData), theirs(layout.ingressRun)]),
    ...(node.services.some(({ service }) => service === "index") ? [theirs(layout.index)] : []),
    ...instances.map(({ id }) => theirs(layout.runOf(id))),
    ...secretDirectories(layout, instances),
  ];
}

function secretDirectories(layout: HostLayout, instances: readonly HostInstance[]): readonly HostDirectory[] {
  const withSecrets = instances.filter(({ spec }) => Object.keys(spec.secrets).length > 0);
  const releases = [...new Set(withSecrets.map(({ release }) => release))];
  const services = new Set(withSecrets.map(({ release, service }) => layout.secretsFor(release, service)));
  return [
    ...releases.map((release) => ({ path: layout.secretsOf(release), mode: 0o700, owner: root })),
    ...[...services].map((path) => ({ path, mode: 0o500, owner: containerUser })),
  ];
}

/** Every rendered file of a node. Gates, records, secrets and certificates are not among them: those are never only rendered. */
export function hostFiles(node: ComposeNode): readonly HostFile[] {
  const layout = layoutOf(node);
  const readable = (path: string, content: string): HostFile => ({ path, mode: 0o644, owner: root, content });
  const instances = node.services.flatMap(({ instances: all }) => all);
  return [
    ...instances.map((instance) => instanceFile(layout, instance)),
    ...(node.services.length === 0 ? [] : [readable(layout.proxyFile, renderProxyCaddyfile(node))]),
    ...(node.ingress === null ? [] : [readable(layout.ingressFile, renderIngressCaddyfile(node, node.ingress))]),
    readable(layout.composeFile, renderCompose(node)),
    readable(layout.readme, renderReadme(node, layout)),
  ];
}

/** What an instance is, for itself: the launch document of a container. */
function instanceFile(layout: HostLayout, instance: HostInstance): HostFile {
  const { id, service, release, slot, fingerprint } = instance;
  const document = {
    schemaVersion: 1,
    id,
    service,
    release,
    slot,
    fingerprint,
    listen: { host: "0.0.0.0", port: insidePort[service] },
    private: privateSocketInside(id),
    control: `${inside.run}/${id}/${sockets.control}`,
    gate: `${inside.gates}/${id}`,
    lingerMs,
  };
  const content = `${JSON.stringify(document, null, 2)}\n`;
  return { path: layout.instanceDocument(id), mode: 0o400, owner: containerUser, content };
}

/** Secret values as the container's user reads them, one file each; the directory is listed by `hostDirectories`. */
export function secretFiles(
  node: ComposeNode,
  { release, service }: Pick<HostInstance, "release" | "service">,
  values: Readonly<Record<string, string>>,
): readonly HostFile[] {
  const directory = layoutOf(node).secretsFor(release, service);
  return Object.entries(values)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, content]) => ({ path: `${directory}/${name}`, mode: 0o400, owner: containerUser, content }));
}

/** Which listener of this node ends TLS; null where TLS is off, or ends on another node. */
export function tlsEnd(node: ComposeNode): "proxy" | "ingress" | null {
  if (node.tls.mode === "off") return null;
  if (node.ingress !== null) return "ingress";
  return node.ingressAddress === null && node.services.length > 0 ? "proxy" : null;
}

/** What TLS needs of the machine that deploys: a certificate with its key, or the CA that an ACME directory is trusted by. */
export type TlsPem = { certificate: string; key: string } | { directoryCa: string };

/** Where that lies on this node; nothing where TLS needs no files of one's own here. */
export function tlsPaths(node: ComposeNode): readonly string[] {
  const [layout, end] = [layoutOf(node), tlsEnd(node)];
  if (end === null) return [];
  if (node.tls.mode === "files") return Object.values(layout.certificateIn(layout[end]));
  return node.tls.mode === "acme" && node.tls.directoryCa ? [layout.directoryCaIn(layout[end])] : [];
}

/** The same as the proxy of this node reads it; a key is for nobody else. */
export function tlsFiles(node: ComposeNode, pem: TlsPem): readonly HostFile[] {
  const [layout, end] = [layoutOf(node), tlsEnd(node)];
  if (end === null) return [];
  if ("directoryCa" in pem)
    return [{ path: layout.directoryCaIn(layout[end]), mode: 0o644, owner: root, content: pem.directoryCa }];
  const { certificate, key } = layout.certificateIn(layout[end]);
  return [
    { path: key, mode: 0o600, owner: containerUser, content: pem.key },
    { path: certificate, mode: 0o644, owner: root, content: pem.certificate },
  ];
}

/** The paths of a node's environment. */
export const layoutOf = ({ dataDirectory, project, environment }: ComposeNode): HostLayout =>
  new HostLayout(dataDirectory, project, environment);

/** `docker compose` for a node's project, as argv; what is done is appended. */
export function composeCommand(node: ComposeNode): readonly [string, ...string[]] {
  const { root: directory, composeFile } = layoutOf(node);
  const project = composeProject(node.project, node.environment);
  return ["docker", "compose", "--project-name", project, "--project-directory", directory, "--file", composeFile];
}

/** Makes an instance's container without starting it, and touches no other. */
export function createCommand(node: ComposeNode, { service, slot }: HostInstance): readonly [string, ...string[]] {
  return [...composeCommand(node), "create", "--no-build", "--pull", "never", "--no-recreate", slotName(service, slot)];
}
