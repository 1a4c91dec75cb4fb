/** What `gpuctl infra` and `gpuctl cost` work with: the user's Pulumi, and the provider's API where a token is given. */
import { join } from "node:path";
import type { SecretSource } from "../domain/config/resolved.js";
import { failureError, typed, type InfraTarget, type InfraTools } from "../app/infra-stack.js";
import type { Clock } from "../ports.js";
import type { Hcloud } from "../ports/hcloud.js";
import type { Pulumi, StackInventories, StackPlace } from "../ports/infra.js";
import { createTools, type ToolsRequest } from "../wiring.js";

const usualEndpoint = "https://api.hetzner.cloud/v1";

export async function createInfra(
  target: InfraTarget,
  request: ToolsRequest,
  cwd: string,
): Promise<InfraTools & { clock: Clock }> {
  const { clock, progress } = await createTools(request);
  const token = await tokenOf(target, request, cwd);
  return { pulumi: await pulumiIn(target.place, request, token), hcloud: await hcloudWith(token, request), progress, clock };
}

/** Inventories of stacks, for every command that loads an environment. */
export async function createInventories(request: ToolsRequest): Promise<StackInventories> {
  const { PulumiInventories } = await import("../adapters/pulumi/stack-inventories.js");
  const pulumi = await pulumiFactory(request, null);
  const { env } = request;
  return new PulumiInventories({
    env,
    pulumi,
    explain: (failure, project, stack) => failureError(failure, project, stack, typed("up", stack)),
  });
}

/** Replaces a file that the user named, durably or not at all. */
export async function inventoryWriter(file: string): Promise<(text: string) => Promise<void>> {
  const { writeNamed } = await import("../adapters/files/write-named.js");
  return (text) => writeNamed(file, text);
}

/** Files in a folder that begin with `bench` and are JSON, as people call what `bench --out` writes. */
export async function benchFiles(folder: string): Promise<readonly string[]> {
  const { filesIn } = await import("../adapters/files/write-named.js");
  return (await filesIn(folder)).filter((name) => /^bench.*\.json$/.test(name)).map((name) => join(folder, name));
}

/** A way to the token; null where the variable that it would come from is not set. */
type Token = (() => Promise<string>) | null;

async function tokenOf({ token, projectFile }: InfraTarget, request: ToolsRequest, cwd: string): Promise<Token> {
  if (isUnset(token, request)) return null;
  const [{ LocalSecretReader }, { executor }] = await Promise.all([
    import("../adapters/secrets/local-secret-reader.js"),
    createTools(request),
  ]);
  const reader = new LocalSecretReader({ ...request, executor, projectFile: projectFile ?? join(cwd, "gpuctl.yaml") });
  let read: Promise<string> | undefined;
  return () => (read ??= reader.read("HCLOUD_TOKEN", token));
}

const isUnset = (source: SecretSource, { env }: ToolsRequest): boolean => "env" in source && !env[source.env];

async function hcloudWith(token: Token, request: ToolsRequest): Promise<Hcloud | null> {
  if (token === null) return null;
  const [{ HcloudApi }, { http, clock }] = await Promise.all([import("../adapters/hcloud/hcloud-api.js"), createTools(request)]);
  const endpoint = request.env["HCLOUD_ENDPOINT"] || usualEndpoint;
  return new HcloudApi({ http, clock, signal: request.signal, endpoint, token });
}

async function pulumiIn(place: StackPlace, request: ToolsRequest, token: Token): Promise<Pulumi> {
  return (await pulumiFactory(request, token))(place);
}

async function pulumiFactory(request: ToolsRequest, token: Token): Promise<(place: StackPlace) => Pulumi> {
  const [{ PulumiCli }, { executor }] = await Promise.all([import("../adapters/pulumi/pulumi-cli.js"), createTools(request)]);
  const { env, signal } = request;
  return (place) => new PulumiCli({ place, executor, env, signal, token: async () => (await token?.()) ?? null });
}
