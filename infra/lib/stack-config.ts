import { problemsFromIssues } from "../../cli/src/domain/config/issues.js";
import type { SourceDocument } from "../../cli/src/domain/config/source.js";
import { planAddresses, type AddressPlan } from "./address-plan.js";
import { isOpen, parseNetwork } from "./cidr.js";
import { largestUserData, userDataSize } from "./cloud-init.js";
import { opensSsh } from "./firewall.js";
import { hostValues } from "./host-values.js";
import type { Script } from "./remote-program.js";
import { soundParts } from "./sound-parts.js";
import { asksForGpu, gpuRefusal, type PriceList } from "./gpu-refusal.js";
import { stackSchema, type HcloudNode, type StackConfig } from "./stack-schema.js";

/** One thing that is wrong: the configuration key (`gpuctl:nodes.gpu-1.hostKey`) and what is wrong with it. */
export interface StackProblem {
  key: string;
  message: string;
}

/** What the program is told besides the configuration: which secrets are there, never their values. */
export interface GivenSecrets {
  /** Whether `gpuctl:k3sToken` is set. */
  k3sToken: boolean;
  /** Whether `hcloud:token` or HCLOUD_TOKEN is set. */
  hcloudToken: boolean;
}

/** Reads a price list; asked for only when its prices are to be said. */
type ReadPrices = (file: string) => PriceList;

/** A stack whose configuration is right as far as that can be known without asking anybody. */
export interface CheckedStack {
  config: StackConfig;
  /** Null for a stack without a private network. */
  plan: AddressPlan | null;
}

/** Everything that is wrong with a stack's configuration, at once. */
export class StackInvalid extends Error {
  readonly problems: readonly StackProblem[];

  constructor(problems: readonly StackProblem[]) {
    super(
      [
        `The configuration of this stack has ${problems.length === 1 ? "a problem" : `${problems.length} problems`}:`,
        ...problems.map(({ key, message }) => `- ${key}: ${message}`),
        "Next: edit Pulumi.<stack>.yaml, then `pulumi preview` (docs/guides/infrastructure.md has an example of each kind)",
      ].join("\n"),
    );
    this.name = "StackInvalid";
    this.problems = problems;
  }
}

/**
 * Reads what stands below `gpuctl:`.
 * @param raw plain data by key, without the prefix and without secrets
 * @param prices reads the user's price list
 * @param script what new servers carry in their user data
 * @throws StackInvalid with every problem
 */
export function checkStack(
  raw: Readonly<Record<string, unknown>>,
  secrets: GivenSecrets,
  prices: ReadPrices,
  script: Script,
): CheckedStack {
  const parsed = stackSchema.safeParse(raw);
  if (!parsed.success) throw new StackInvalid(problemsOfUnsound(raw, parsed.error.issues, secrets, prices, script));
  const { plan, problems } = addressesOf(parsed.data);
  const all = [
    ...problems,
    ...gpuProblems(parsed.data, prices),
    ...otherProblems(parsed.data, secrets),
    ...userDataProblems({ config: parsed.data, plan }, script),
  ];
  if (all.length > 0) throw new StackInvalid(all);
  return { config: parsed.data, plan };
}

/** What the schema says, and what is wrong with the rest: nobody should mend ten keys first to hear that SSH is open, or that there is no GPU. */
function problemsOfUnsound(
  raw: Readonly<Record<string, unknown>>,
  issues: Parameters<typeof problemsFromIssues>[0],
  secrets: GivenSecrets,
  prices: ReadPrices,
  script: Script,
): StackProblem[] {
  const document: SourceDocument = { file: "", text: "", value: raw, problems: [], locate: () => null };
  const unsound = problemsFromIssues(issues, stackSchema, document);
  const said = unsound.map(({ path, message, hint }) => ({
    key: `gpuctl:${path ?? ""}`,
    message: hint === null ? message : `${message}; ${hint}`,
  }));
  const rest = soundParts(raw);
  if (rest === null) return said;
  const meant = unsound.flatMap(({ path, guess }) => (path === null || guess === null ? [] : [path.replace(/[^.]*$/, guess)]));
  const known = [...said.map(({ key }) => key), ...meant.map((path) => `gpuctl:${path}`)];
  const { plan, problems } = addressesOf(rest);
  const more = [...problems, ...otherProblems(rest, secrets), ...userDataProblems({ config: rest, plan }, script)];
  return [...said, ...gpuProblems(rest, prices), ...more.filter(({ key }) => !known.some((other) => follows(key, other)))];
}

/** Whether what was found at `key` may only be there because `wrong` is wrong. */
function follows(key: string, wrong: string): boolean {
  if (/^gpuctl:network\b/.test(wrong) && /^gpuctl:network\b|\.robot\.vlan\./.test(key)) return true;
  const below = (inner: string, outer: string) => inner.startsWith(outer) && /^(?:$|[.[])/.test(inner.slice(outer.length));
  return below(key, wrong) || below(wrong, key);
}

const otherProblems = (config: StackConfig, secrets: GivenSecrets): StackProblem[] => [
  ...accessProblems(config),
  ...clusterProblems(config, secrets),
  ...tokenProblems(config, secrets),
];

const problem = (path: string, message: string): StackProblem => ({ key: `gpuctl:${path}`, message });

export function hcloudNodes(config: StackConfig): [string, HcloudNode][] {
  return Object.entries(config.nodes).filter((entry): entry is [string, HcloudNode] => entry[1].kind === "hcloud");
}

function addressesOf(config: StackConfig): { plan: AddressPlan | null; problems: StackProblem[] } {
  const { network } = config;
  if (network === null) {
    const alone = hcloudNodes(config).map(([name]) =>
      problem("network", `missing: ${name} is a cloud server, and services are published on a private network only`),
    );
    return { plan: null, problems: [...alone.slice(0, 1), ...vlanProblems(config, null)] };
  }
  const hosts = hcloudNodes(config).map(([name, { number }]) => ({ name, number }));
  const request = { range: network.range, cloud: network.cloud, vswitch: network.vswitch?.range ?? null, hosts };
  const { plan, problems } = planAddresses(request);
  const zone =
    network.vswitch !== null && network.zone !== "eu-central"
      ? [problem("network.zone", "a vSwitch can be coupled in eu-central only")]
      : [];
  return {
    plan,
    problems: [...problems.map(({ path, message }) => problem(path, message)), ...zone, ...vlanProblems(config, plan)],
  };
}

function vlanProblems(config: StackConfig, plan: AddressPlan | null): StackProblem[] {
  return Object.entries(config.nodes).flatMap(([name, node]) => {
    const vlan = node.kind === "adopted" ? node.robot?.vlan : null;
    if (vlan == null) return [];
    const path = `nodes.${name}.robot.vlan.address`;
    const subnet = plan?.vswitch == null ? null : parseNetwork(plan.vswitch);
    if (subnet === null) return [problem(path, "there is no vSwitch in this stack; set network.vswitch")];
    const address = parseNetwork(vlan.address);
    const inside =
      address !== null &&
      address.first > subnet.first + 1n &&
      address.first < subnet.first + (1n << BigInt(32 - subnet.prefix)) - 1n;
    return inside ? [] : [problem(path, `expected an address of ${plan?.vswitch ?? ""} other than its first two and its last`)];
  });
}

function tokenProblems({ network }: StackConfig, { hcloudToken }: GivenSecrets): StackProblem[] {
  if (network === null || hcloudToken) return [];
  const message = "missing: pulumi config set --secret hcloud:token, with an API token of the project that may read and write";
  return [{ key: "hcloud:token", message }];
}

function accessProblems({ operators, app, nodes }: StackConfig): StackProblem[] {
  const hosts = Object.keys(nodes).length > 0;
  const missing = [
    ...(hosts && operators.addresses.length === 0
      ? [problem("operators.addresses", "missing: the networks that SSH is allowed from, such as your own address with /32")]
      : []),
    ...(hosts && operators.keys.length === 0
      ? [problem("operators.keys", "missing: the public keys of those who may log in, as in ~/.ssh/id_ed25519.pub")]
      : []),
  ];
  const unreadable = (path: string, networks: readonly string[]) =>
    networks.flatMap((network, index) =>
      parseNetwork(network) === null
        ? [problem(`${path}[${index}]`, `${network} is no network (no bit may be set beyond the prefix: 10.0.0.0/8)`)]
        : [],
    );
  const opening = operators.addresses.filter((network) => opensSsh(network, []));
  const again = opening.length === 1 ? opening.join() : `[${opening.join(", ")}]`;
  const open = operators.addresses.flatMap((network, index) =>
    opensSsh(network, operators.anywhere)
      ? [
          problem(
            `operators.addresses[${index}]`,
            `${network} opens SSH to the internet. If you mean it, say it a second time: operators.anywhere: ${again}`,
          ),
        ]
      : [],
  );
  const services = app.flatMap((network, index) => {
    const parsed = parseNetwork(network);
    return parsed !== null && isOpen(parsed)
      ? [
          problem(
            `app[${index}]`,
            `${network} opens the services to the internet; put an ingress with TLS and keys before them instead`,
          ),
        ]
      : [];
  });
  return [...missing, ...unreadable("operators.addresses", operators.addresses), ...unreadable("app", app), ...open, ...services];
}

/** What a server cannot be made with. Lists are the only parts of user data that grow: the longer one is what to shorten. */
function userDataProblems(checked: CheckedStack, script: Script): StackProblem[] {
  const { app, operators } = checked.config;
  const sizes = hcloudNodes(checked.config).map(([name, node]) =>
    userDataSize({ script, values: hostValues(checked, name, node), operators: operators.keys }),
  );
  const excess = Math.max(0, ...sizes) - largestUserData;
  if (excess <= 0) return [];
  const [path, hint] =
    operators.keys.join().length < app.join().length
      ? ["app", "name larger networks"]
      : ["operators.keys", "an ssh-ed25519 key has a seventh of the bytes of an RSA key, and names behind keys count too"];
  return [
    problem(
      path,
      `${excess} bytes too many: a new cloud server takes ${largestUserData} bytes of user data, and these are in it; ${hint}`,
    ),
  ];
}

function gpuProblems(config: StackConfig, prices: ReadPrices): StackProblem[] {
  const asking = hcloudNodes(config).filter(([, node]) => asksForGpu(node));
  const first = asking[0];
  if (first === undefined) return [];
  const names = asking.map(([name]) => name).join(", ");
  return [problem(`nodes.${first[0]}`, `${asking.length > 1 ? `(and ${names}) ` : ""}${gpuRefusal(prices(config.prices))}`)];
}

function clusterProblems(config: StackConfig, secrets: GivenSecrets): StackProblem[] {
  const { cluster } = config;
  if (Object.keys(config.nodes).length === 0 && cluster === null)
    return [problem("nodes", "this stack has neither nodes nor a cluster: there is nothing to make")];
  if (cluster?.kind !== "k3s") return [];
  const strangers = cluster.agents.flatMap((agent, index) =>
    Object.hasOwn(config.nodes, agent) ? [] : [problem(`cluster.agents[${index}]`, `there is no node ${agent} in this stack`)],
  );
  const token = secrets.k3sToken
    ? []
    : [
        problem(
          "k3sToken",
          "missing: pulumi config set --secret gpuctl:k3sToken, with /var/lib/rancher/k3s/server/node-token of the server",
        ),
      ];
  return [...strangers, ...token];
}
