import type { ImageTools, SourceRevision } from "../../cli/src/ports/images.js";
import type { LastBuild } from "../../cli/src/domain/images/cache.js";
import type { CommandResult } from "../../cli/src/ports.js";
import { CollectingProgress } from "./collecting-progress.js";
import { ScriptedExecutor } from "./scripted-executor.js";
import { SteppingClock } from "./stepping-clock.js";

/** Digest that the fake registry gives to what is pushed. */
export const registryDigest = `sha256:${"d".repeat(64)}`;
const id = `sha256:${"1".repeat(64)}`;

/** A Docker with one registry: builds, tags, pushes and forgets as it is asked to. */
export class DockerHere {
  readonly images = new Set<string>();
  /** Reference with a tag or digest. */
  readonly registry = new Set<string>();
  readonly progress = new CollectingProgress();
  readonly configs: string[] = [];
  last: LastBuild | null = null;
  /** What the package's build noted of its commit. */
  packed: SourceRevision | null = null;
  /** `docker`, or ours in a container. */
  ours = false;
  status = "running";
  limitBytes = 20_000_000_000;
  insecure = false;
  /** Answers a command before the fake does. */
  answer: (argv: readonly string[]) => Partial<CommandResult> | null = () => null;
  readonly executor = new ScriptedExecutor(({ argv }) => this.answer(argv) ?? this.#docker(argv));

  tools(): ImageTools {
    return {
      executor: this.executor,
      clock: new SteppingClock(),
      progress: this.progress,
      signal: new AbortController().signal,
      gpuctlVersion: "1.2.3",
      packageRoot: "/package",
      context: {
        directory: "/package/compose/services",
        files: () => Promise.resolve({ Dockerfile: "a".repeat(64), "locks/runtime.txt": "b".repeat(64) }),
        packedRevision: () => Promise.resolve(this.packed),
      },
      notes: {
        lastBuild: () => Promise.resolve(this.last),
        remember: (build) => {
          this.last = build;
          return Promise.resolve();
        },
        builderConfig: (text) => {
          this.configs.push(text);
          return Promise.resolve("/cache/buildkitd.toml");
        },
      },
    };
  }

  /** What was run and changes something. */
  get changes(): string[] {
    const asks = /^git |docker (?:info|image inspect|manifest inspect|buildx (?:inspect gpuctl$|inspect$|imagetools|du))/;
    return this.executor.commands.map(({ argv }) => argv.join(" ")).filter((line) => !asks.test(line));
  }

  #docker(argv: readonly string[]): Partial<CommandResult> {
    const line = argv.join(" ");
    const last = argv.at(-1) ?? "";
    if (argv[0] === "git") return { code: 128 };
    if (line.startsWith("docker info")) return { stdout: this.#info(line) };
    if (line === "docker buildx inspect gpuctl")
      return this.ours ? { stdout: this.#builder() } : missing('no builder "gpuctl" found');
    if (line === "docker buildx inspect") return { stdout: "Name: default\nDriver: docker\n\nStatus: running\n" };
    if (line.startsWith("docker buildx build")) return this.#build(argv);
    if (line.startsWith("docker image inspect"))
      return this.images.has(last) ? { stdout: `${id} 407000000\n` } : missing(`No such image: ${last}`);
    if (line.includes("imagetools inspect") || line.includes("manifest inspect"))
      return this.registry.has(last) ? { stdout: `Name: x\nDigest: ${registryDigest}\n` } : missing(`${last}: not found`);
    if (line.startsWith("docker tag")) this.images.add(last);
    if (line.startsWith("docker push")) {
      this.#keep(last);
      return { stdout: `x: digest: ${registryDigest} size: 1365\n` };
    }
    return {};
  }

  #info(line: string): string {
    if (line.includes("DriverStatus")) return "[]\n";
    return `{"InsecureRegistryCIDRs": [${this.insecure ? '"192.0.2.0/24"' : ""}]}\n`;
  }

  #builder(): string {
    return `Name: gpuctl\nDriver: docker-container\n\nStatus: ${this.status}\n > maxUsedSpace = "${this.limitBytes}"\n`;
  }

  #build(argv: readonly string[]): Partial<CommandResult> {
    const ref = argv[argv.indexOf("--tag") + 1] ?? "";
    const steps = "#1 [packages 1/2] COPY a b\n#1 CACHED\n#2 [packages 2/2] RUN x\n#2 DONE 1.0s\n";
    if (!argv.includes("--push")) {
      this.images.add(ref);
      return { stdout: steps };
    }
    this.#keep(ref);
    return { stdout: `${steps}#3 pushing manifest for ${ref}@${registryDigest} done\n` };
  }

  #keep(ref: string): void {
    this.registry.add(ref);
    this.registry.add(`${ref.replace(/:[^:/]*$/, "")}@${registryDigest}`);
  }
}

const missing = (what: string): Partial<CommandResult> => ({ code: 1, stderr: `ERROR: ${what}\n` });
