import { gunzipSync } from "node:zlib";
import { parse } from "yaml";
import { isOpen, parseNetwork } from "../lib/cidr.js";
import { gpuResource } from "../lib/time-slicing.js";

/** A resource as a policy sees it before it is made. */
export interface PlannedResource {
  /** Such as `hcloud:index/firewall:Firewall`. */
  type: string;
  props: Readonly<Record<string, unknown>>;
  /** Whether `pulumi destroy` refuses to delete it. */
  protect: boolean;
}

type Json = Readonly<Record<string, unknown>>;

/**
 * Rules of a firewall that let the internet reach SSH.
 * @param allowed networks for which somebody decided so
 */
export function openSsh({ type, props }: PlannedResource, allowed: readonly string[]): string[] {
  if (type !== "hcloud:index/firewall:Firewall") return [];
  return list(props["rules"]).flatMap((rule) => {
    if (rule["direction"] !== "in" || rule["protocol"] !== "tcp" || !coversSsh(rule["port"])) return [];
    return texts(rule["sourceIps"])
      .filter((network) => !allowed.includes(network) && opens(network))
      .map((network) => `SSH is open to the internet (${network}): name the networks of the operators instead`);
  });
}

/** What looks like a secret in the user data of a server, which every process of that server can read for ever. */
export function tokensInUserData({ type, props }: PlannedResource): string[] {
  const userData = props["userData"];
  if (type !== "hcloud:index/server:Server" || typeof userData !== "string") return [];
  const found = secretLike.filter(({ pattern }) => pattern.test(withoutPublicParts(userData)));
  return found.map(({ what }) => `the user data holds what looks like ${what}: hand it over by SSH, on stdin`);
}

/** Volumes and addresses that a mistake could delete. */
export function unprotected({ type, props, protect }: PlannedResource): string[] {
  const what = { "hcloud:index/volume:Volume": "volume", "hcloud:index/primaryIp:PrimaryIp": "address" }[type];
  if (what === undefined) return [];
  return [
    ...(protect ? [] : [`this ${what} is not protected: \`pulumi destroy\` would delete it`]),
    ...(props["deleteProtection"] === true ? [] : [`this ${what} has no deleteProtection: anybody with the token can delete it`]),
  ];
}

/**
 * Containers of GPU pods without limits: one that takes all memory of a host ends its neighbours as well. Pods of Helm charts are not
 * seen: of a chart that is installed as a release, Pulumi knows name and values, and the pods only Helm.
 */
export function gpuPodsWithoutLimits({ type, props }: PlannedResource): string[] {
  const spec = podSpec(type, props);
  if (spec === undefined) return [];
  const containers = [...list(spec["initContainers"]), ...list(spec["containers"])];
  const asking = containers.filter((container) => amount(container, "requests") ?? amount(container, "limits"));
  if (spec["runtimeClassName"] !== "nvidia" && asking.length === 0) return [];
  const unlimited = asking.flatMap((container) => [
    ...(amount(container, "limits") === undefined
      ? [`container ${nameOf(container)} asks for a GPU without limits.${gpuResource}`]
      : []),
    ...(resources(container, "limits")["memory"] === undefined
      ? [`container ${nameOf(container)} has a GPU and no limits.memory`]
      : []),
  ]);
  return asking.length === 0 ? [`a pod with runtimeClassName nvidia has no container with limits.${gpuResource}`] : unlimited;
}

const secretLike = [
  { what: "a private key", pattern: /-----BEGIN [A-Z ]*PRIVATE KEY-----/ },
  { what: "a token of Hetzner Cloud", pattern: /\b(?=[A-Za-z0-9]*[a-z])(?=[A-Za-z0-9]*[A-Z])[A-Za-z0-9]{64}\b/ },
  { what: "a token of k3s", pattern: /\bK10[0-9a-f]{20,}\b/ },
  { what: "a token of GitHub or GitLab", pattern: /\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|glpat-[\w-]{20,})/ },
  { what: "a key of AWS", pattern: /\bA(?:KIA|SIA)[0-9A-Z]{16}\b/ },
  { what: "a token of a model hub", pattern: /\bhf_[A-Za-z0-9]{30,}\b/ },
  { what: "a signed token (JWT)", pattern: /\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}/ },
  { what: "a password", pattern: /\b(?:password|passwd|secret|api[_-]?key|token)["']?\s*[:=]\s*["']?[^\s"'$<{]{8,}/i },
];

/** Of the key that identifies the host until the first connection, exactly one is allowed, and only in its place. */
function withoutPublicParts(userData: string): string {
  const document = cloudConfig(unpacked(userData));
  if (document === null) return unpacked(userData);
  const { ssh_keys: keys, write_files: files, ...rest } = document;
  const others = isMap(keys) ? Object.fromEntries(Object.entries(keys).filter(([name]) => name !== "ecdsa_private")) : keys;
  const contents = list(files).map((file) =>
    typeof file["content"] === "string" ? content(file["content"], file["encoding"]) : "",
  );
  return [JSON.stringify(rest), JSON.stringify(others ?? {}), ...contents]
    .join("\n")
    .replaceAll(/\bAAAA[A-Za-z0-9+/]{60,}={0,2}/g, "");
}

/** cloud-init takes user data that was compressed, then written in base64. */
function unpacked(text: string): string {
  const bytes = /^[A-Za-z0-9+/\s]+={0,2}\s*$/.test(text) ? Buffer.from(text, "base64") : null;
  return bytes?.[0] === 0x1f && bytes[1] === 0x8b ? gunzipSync(bytes).toString() : text;
}

function content(text: string, encoding: unknown): string {
  if (typeof encoding !== "string") return text;
  const bytes = encoding.includes("b") ? Buffer.from(text, "base64") : Buffer.from(text);
  return encoding.startsWith("gz") ? gunzipSync(bytes).toString() : bytes.toString();
}

function cloudConfig(text: string): Json | null {
  if (!text.startsWith("#cloud-config")) return null;
  const document: unknown = parse(text);
  return isMap(document) ? document : null;
}

const podPaths: Readonly<Record<string, readonly string[]>> = {
  "kubernetes:core/v1:Pod": ["spec"],
  "kubernetes:apps/v1:Deployment": ["spec", "template", "spec"],
  "kubernetes:apps/v1:StatefulSet": ["spec", "template", "spec"],
  "kubernetes:apps/v1:DaemonSet": ["spec", "template", "spec"],
  "kubernetes:apps/v1:ReplicaSet": ["spec", "template", "spec"],
  "kubernetes:batch/v1:Job": ["spec", "template", "spec"],
  "kubernetes:batch/v1:CronJob": ["spec", "jobTemplate", "spec", "template", "spec"],
};

function podSpec(type: string, props: Json): Json | undefined {
  let found: unknown = props;
  for (const part of podPaths[type] ?? [""]) found = isMap(found) ? found[part] : undefined;
  return isMap(found) ? found : undefined;
}

function coversSsh(port: unknown): boolean {
  if (port === undefined || port === "any") return true;
  const [from, to] = typeof port === "string" ? port.split("-").map(Number) : [Number(port)];
  return from !== undefined && from <= 22 && 22 <= (to ?? from);
}

function opens(network: string): boolean {
  const parsed = parseNetwork(network);
  return parsed === null || isOpen(parsed);
}

const isMap = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value);
const list = (value: unknown): Json[] => (Array.isArray(value) ? value.filter(isMap) : []);
const texts = (value: unknown): string[] => (Array.isArray(value) ? value.filter((each) => typeof each === "string") : []);
const resources = (container: Json, kind: "limits" | "requests"): Json => {
  const all = container["resources"];
  const part = isMap(all) ? all[kind] : undefined;
  return isMap(part) ? part : {};
};
const amount = (container: Json, kind: "limits" | "requests"): unknown => resources(container, kind)[gpuResource];
const nameOf = (container: Json): string => String(container["name"]);
