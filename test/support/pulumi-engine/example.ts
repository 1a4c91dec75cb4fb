/** An example stack of the repository under the real engine, with its providers as doubles. */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { startFakeHcloud, type FakeHcloud } from "../fake-hcloud/index.js";
import { commandDouble } from "./doubles/command.js";
import { hcloudDouble } from "./doubles/hcloud.js";
import { RemoteHosts } from "./doubles/hosts.js";
import { kubernetesDouble, type Clusters } from "./doubles/kubernetes.js";
import { startDoubles, type Doubles } from "./doubles/serving.js";
import { PulumiProject } from "./project.js";

/** Versions of the SDKs, from the file that pins them: the engine asks for providers of just these. */
function versionOf(folder: string, name: string): string {
  const manifest = JSON.parse(readFileSync(join(folder, "infra/package.json"), "utf8")) as {
    dependencies: Record<string, string>;
  };
  return manifest.dependencies[`@pulumi/${name}`] ?? "";
}

/** Stands for the operator's key; no test may find it in clear text. */
export const operatorKey = "-----BEGIN OPENSSH PRIVATE KEY-----\nb2Ygbm9ib2R5\n-----END OPENSSH PRIVATE KEY-----\n";

export class ExampleStack {
  readonly name: string;
  readonly project: PulumiProject;
  readonly hcloud: FakeHcloud;
  readonly hosts: RemoteHosts;
  readonly clusters: Clusters;
  readonly #doubles: Doubles;

  private constructor(
    name: string,
    project: PulumiProject,
    parts: { hcloud: FakeHcloud; hosts: RemoteHosts; clusters: Clusters; doubles: Doubles },
  ) {
    this.name = name;
    this.project = project;
    this.hcloud = parts.hcloud;
    this.hosts = parts.hosts;
    this.clusters = parts.clusters;
    this.#doubles = parts.doubles;
  }

  /** Makes the stack and gives it its secrets; `secrets` are `key=value` beside the operator's key and the provider's token. */
  static async start(name: string, secrets: readonly string[] = []): Promise<ExampleStack> {
    const stack = await ExampleStack.prepare(name);
    await stack.must("stack", "init", name);
    const all = [`hcloud:token=${stack.hcloud.token}`, `gpuctl:sshPrivateKey=${operatorKey}`, ...secrets];
    await stack.must("config", "set-all", ...all.flatMap((pair) => ["--secret", pair]));
    return stack;
  }

  /** Everything around a stack that nobody has made yet; `environment` is what the provider finds in its own. */
  static async prepare(name: string, environment: { token?: string } = {}): Promise<ExampleStack> {
    const [project, hcloud] = [await PulumiProject.create(), await startFakeHcloud({ actionMs: 15 })];
    const hosts = new RemoteHosts();
    const clusters: Clusters = new Map();
    // A type of the examples that the fake does not sell.
    hcloud.catalogue.serverTypes.push({ ...hcloud.catalogue.serverTypes[0]!, id: 143, name: "cx43" });
    const doubles = await startDoubles([
      hcloudDouble(versionOf(project.folder, "hcloud"), { endpoint: hcloud.endpoint, ...environment }),
      commandDouble(versionOf(project.folder, "command"), hosts.answer, localEnvironment(project.folder)),
      kubernetesDouble(versionOf(project.folder, "kubernetes"), clusters),
    ]);
    Object.assign(project.env, doubles.env);
    return new ExampleStack(name, project, { hcloud, hosts, clusters, doubles });
  }

  /** Runs another command than an operation. Throws with what it said. */
  async must(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.project.pulumi(args);
    if (code !== 0) throw new Error(`pulumi ${args[0] ?? ""} ended with ${code ?? "a signal"}:\n${stdout}${stderr}`);
    return stdout;
  }

  /** Sets a value below `gpuctl:`, by its path. */
  set(path: string, value: string): Promise<string> {
    return this.must("config", "set", "--path", `gpuctl:${path}`, value);
  }

  /** The stack's state as it lies on the disk. */
  state(): string {
    return this.project.state("gpuctl", this.name);
  }

  async inventory(): Promise<unknown> {
    return (JSON.parse(await this.must("stack", "output", "--json")) as { inventory: unknown }).inventory;
  }

  /** What was done to resources since this was last asked, without providers: `create staging-1`. */
  done(): string[] {
    const calls = this.#doubles.calls.splice(0);
    return calls
      .filter(({ method }) => ["create", "update", "delete"].includes(method))
      .map(({ method, name }) => `${method} ${name}`);
  }

  /** Whether the engine told its providers to stop, since `done` was last asked. */
  isToldToStop(): boolean {
    return this.#doubles.calls.some(({ method }) => method === "cancel");
  }

  /** Arguments of every `kubectl` that the program ran on this machine. */
  kubectl(): string[] {
    return readFileSync(join(this.project.folder, "kubectl.log"), "utf8").split("\n").filter(Boolean);
  }

  /** Something that somebody does to the provider's project beside Pulumi. Throws when it is refused. */
  async hcloudCall(method: string, path: string): Promise<void> {
    const headers = { authorization: `Bearer ${this.hcloud.token}` };
    const response = await fetch(`${this.hcloud.endpoint}${path}`, { method, headers });
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status}`);
  }

  async stop(): Promise<void> {
    this.#doubles.close();
    await this.hcloud.close();
    this.project.remove();
  }
}

/** Local commands find a `kubectl` that notes what it was asked and does nothing. */
function localEnvironment(folder: string): Record<string, string> {
  const bin = join(folder, "bin");
  mkdirSync(bin);
  const log = join(folder, "kubectl.log");
  writeFileSync(log, "");
  writeFileSync(join(bin, "kubectl"), `#!/bin/sh\necho "$*" >>${log}\n`);
  chmodSync(join(bin, "kubectl"), 0o755);
  return { PATH: [bin, process.env["PATH"] ?? ""].join(delimiter), HOME: folder };
}
