import { readFileSync } from "node:fs";
import { join } from "node:path";
import type * as pulumi from "@pulumi/pulumi";
import { parse } from "yaml";
import { vi } from "vitest";
import type { Inventory } from "../../../cli/src/domain/inventory.js";
import { packageRoot } from "../run-command.js";

export const exampleStacks = ["hetzner-cpu", "adopted-t4", "robot-gex", "k3s-gpu-pool", "existing-cluster"] as const;
export type ExampleStack = (typeof exampleStacks)[number];

/** What the program asked the engine for: one resource, its inputs, and the options that decide its fate. */
export interface Registered {
  type: string;
  name: string;
  /** Name of the component that it belongs to, or empty. */
  parent: string;
  inputs: Record<string, unknown>;
  /** Inputs that are kept encrypted, whole or in part. */
  secret: string[];
  protect: boolean;
  ignoreChanges: string[];
  deleteBeforeReplace: boolean;
  /** Names of what has to be there before it, and may only go after it. */
  dependsOn: string[];
  secretOutputs: string[];
  provider: string;
}

/** The structure of an example, as plain data by its full key. */
export function exampleConfig(stack: ExampleStack): Record<string, unknown> {
  const text = readFileSync(join(packageRoot, `infra/stacks/Pulumi.${stack}.yaml`), "utf8");
  return (parse(text) as { config: Record<string, unknown> }).config;
}

export const privateKey = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk=\n-----END OPENSSH PRIVATE KEY-----";
export const hostKeyOfServer = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHJlYWxrZXlvZnRoZWhvc3RpdHNlbGYxMjM0NTY3ODkwMTI";
/** What stands for the key that servers are made with. */
export const unusableKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG5vYm9keWhhc3RoZXByaXZhdGVoYWxm nobody-has-the-private-half";
const secretSignature = "4dabf18193072939515e22adb298388d";

/** What a provider computes, by the type or the end of the name of a resource. */
const computed: readonly [RegExp, Record<string, unknown>][] = [
  [/PrimaryIp/, { ipAddress: "192.0.2.7" }],
  [/Volume /, { linuxDevice: "/dev/disk/by-id/scsi-0HC_Volume_7" }],
  [/-first-key$/, { stdout: `${privateKey}\necdsa-sha2-nistp256 AAAAE2VjZHNh\n` }],
  [/Command server-key$/, { stdout: unusableKey }],
  [/-first-contact$/, { stdout: `${hostKeyOfServer}\n` }],
  [/-verify$/, { stdout: '{"state":"prepared"}\n' }],
];

interface Request {
  getType(): string;
  getName(): string;
  getParent(): string;
  getObject(): { toJavaScript(): Record<string, unknown> } | undefined;
  getProtect(): boolean;
  getIgnorechangesList(): string[];
  getDeletebeforereplace(): boolean;
  getDependenciesList(): string[];
  getAdditionalsecretoutputsList(): string[];
  getProvider(): string;
}

type Register = (request: Request, callback: unknown) => unknown;

/**
 * Runs the program as `pulumi up` does, up to where the engine begins: mocks answer for it. Shows the graph and the options of every
 * resource; not what a provider or the engine makes of them.
 */
export async function runStack(
  stack: string,
  config: Readonly<Record<string, unknown>>,
  secrets: Readonly<Record<string, string>> = { "hcloud:token": "t".repeat(64), "gpuctl:k3sToken": "K10secret" },
): Promise<{ resources: Registered[]; inventory: Inventory; dataDirectory: string | undefined; readable: boolean }> {
  const resources: Registered[] = [];
  let id = 1000;
  vi.resetModules();
  // The program gets a fresh copy of the SDK with every run: nothing of an earlier one is left in it.
  const sdk = await import("@pulumi/pulumi");
  await sdk.runtime.setMocks(
    {
      newResource: ({ type, name, inputs }) => {
        const answers = computed.filter(([which]) => which.test(`${type} ${name}`)).map(([, answer]) => answer);
        return { id: String(++id), state: Object.assign({}, inputs, ...answers) as Record<string, unknown> };
      },
      call: ({ inputs }) => inputs as Record<string, unknown>,
    },
    "gpuctl",
    stack,
    false,
  );
  record(sdk.runtime.getMonitor() as unknown as { registerResource: Register }, resources);
  const plain = Object.entries(config).map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]);
  sdk.runtime.setAllConfig({ ...(Object.fromEntries(plain) as Record<string, string>), ...secrets }, Object.keys(secrets));
  const program = (await import("../../../infra/index.js")) as {
    inventory: pulumi.Output<Inventory>;
    dataDirectory: string | undefined;
  };
  const inventory = await new Promise<Inventory>((resolve) => program.inventory.apply(resolve));
  await sdk.runtime.disconnect();
  // An output that is a secret would be shown to nobody without its passphrase.
  const { dataDirectory } = program;
  return { resources, inventory, dataDirectory, readable: !(await sdk.isSecret(program.inventory)) };
}

function record(monitor: { registerResource: Register }, resources: Registered[]): void {
  const register = monitor.registerResource.bind(monitor);
  monitor.registerResource = (request, callback) => {
    const inputs = request.getObject()?.toJavaScript() ?? {};
    resources.push({
      type: request.getType(),
      name: request.getName(),
      parent: nameOf(request.getParent()),
      inputs: revealed(inputs) as Record<string, unknown>,
      secret: Object.keys(inputs).filter((key) => JSON.stringify(inputs[key]).includes(secretSignature)),
      protect: request.getProtect(),
      ignoreChanges: request.getIgnorechangesList(),
      deleteBeforeReplace: request.getDeletebeforereplace(),
      dependsOn: request.getDependenciesList().map(nameOf).sort(),
      secretOutputs: request.getAdditionalsecretoutputsList(),
      provider: nameOf(request.getProvider().replace(/::[^:]*$/, "")),
    });
    return register(request, callback);
  };
}

const nameOf = (urn: string): string => urn.split("::").at(-1) ?? "";

function revealed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(revealed);
  if (typeof value !== "object" || value === null) return value;
  if (secretSignature in value) return revealed((value as { value?: unknown }).value);
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, revealed(inner)]));
}
