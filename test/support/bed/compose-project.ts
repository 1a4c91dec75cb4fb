/** The Compose files of this checkout, on a host of a bed, as a person without the command line uses them. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { repository } from "../sandbox.js";
import type { BedHost } from "./host.js";
import type { Ran, RunOptions } from "./shell.js";

const folder = "/srv/gpuctl";
const volume = "gpuctl-models";
const minilm = "sentence-transformers--all-MiniLM-L6-v2";

export class ComposeProject {
  readonly #host: BedHost;

  constructor(host: BedHost) {
    this.#host = host;
  }

  /** Puts the files and the tests' model on the host. `settings` are added to what .env.example says. */
  async install(settings: Readonly<Record<string, string>>): Promise<void> {
    const here = join(this.#host.root, folder);
    mkdirSync(here, { recursive: true });
    for (const name of readdirSync(join(repository, "compose")).filter((each) => /^compose\..*yaml$/.test(each)))
      cpSync(join(repository, "compose", name), join(here, name));
    const model = await this.#installModel();
    const example = readFileSync(join(repository, "compose/.env.example"), "utf8").replaceAll(`${minilm}/REVISION`, model);
    const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}\n`);
    writeFileSync(join(here, ".env"), example + lines.join(""));
  }

  /** `docker compose` with the overlays named. */
  compose(args: readonly string[], overlays: readonly string[] = [], options: RunOptions = {}): Promise<Ran> {
    const files = ["compose.yaml", ...overlays.map((name) => `compose.${name}.yaml`)].flatMap((name) => [
      "-f",
      `${folder}/${name}`,
    ]);
    return this.#host.exec(["docker", "compose", ...files, ...args], { timeoutMs: 300_000, ...options });
  }

  /** The same for one that must succeed; its stdout. */
  async must(args: readonly string[], overlays: readonly string[] = []): Promise<string> {
    const { code, stdout, stderr } = await this.compose(args, overlays);
    if (code === 0) return stdout;
    const logs = await this.compose(["logs", "--tail", "30"], overlays);
    throw new Error(`docker compose ${args.join(" ")} ended with ${code ?? "a signal"}:\n${stdout}${stderr}\n${logs.stdout}`);
  }

  /** Runs a command in a service's container. */
  inside(service: string, command: readonly string[]): Promise<Ran> {
    return this.compose(["exec", "-T", service, ...command]);
  }

  /** Status and body of a request from the host itself. */
  async request(port: number, path: string, body?: unknown): Promise<{ status: number; body: unknown }> {
    const post = body === undefined ? [] : ["-H", "content-type: application/json", "-d", JSON.stringify(body)];
    const url = `http://127.0.0.1:${port}${path}`;
    const { stdout } = await this.#host.exec(["curl", "-s", "--max-time", "60", "-w", "\n%{http_code}", ...post, url]);
    const [text, status] = split(stdout);
    return { status: Number(status), body: text === "" ? null : (JSON.parse(text) as unknown) };
  }

  /** Copies the model into the volume. Its directory in there. */
  async #installModel(): Promise<string> {
    const store = process.env["GPUCTL_TEST_MODEL_STORE"] ?? "";
    const models = join(store, minilm);
    if (store === "" || !existsSync(models)) throw new Error("GPUCTL_TEST_MODEL_STORE names no store with the test model");
    const revision = readdirSync(models).find((name) => existsSync(join(models, name, "manifest.json"))) ?? "";
    await this.#host.must(["docker", "volume", "create", volume]);
    const target = (await this.#host.must(["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", volume])).trim();
    cpSync(join(models, revision), join(this.#host.root, target, minilm, revision), { recursive: true });
    return `${minilm}/${revision}`;
  }
}

function split(text: string): [string, string] {
  const at = text.lastIndexOf("\n");
  return [text.slice(0, at), text.slice(at + 1)];
}
