/** GPUs that are not there: what the stand-in for nvidia-smi says, and what containers get when they ask for one. */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** A GPU of a host. Figures that are left out are those of a Tesla T4. */
export interface GpuModel {
  uuid: string;
  name?: string;
  totalMiB?: number;
  reservedMiB?: number;
  computeCapability?: string;
}

/** What nvidia-smi answers with; a test may change all of it at any time. */
export interface GpuState {
  /** User-space part of the driver; containers get its library. */
  driver: string;
  /** What is loaded into the kernel until the next start of the host. */
  kernelModule: string;
  /** It answers so many seconds late. */
  delaySeconds?: number;
  /** Instead of any answer. */
  fault?: { exit: number; says: string } | null;
  gpus: {
    index: number;
    uuid: string;
    name: string;
    totalMiB: number;
    reservedMiB: number;
    /** In use by nobody that is listed. */
    baseMiB: number;
    computeCapability: string;
    temperature: number;
    persistence?: boolean;
    uncorrectedErrors?: number;
    /** Said in place of every figure: `GPU is lost`. */
    fault?: string;
  }[];
  /** Whether processes are listed at all; WSL2 and some MIG instances list none. Their memory is in use all the same. */
  listsProcesses?: boolean;
  /** Processes that hold memory without being there. */
  processes: { uuid: string; pid: number; mib: number; name: string }[];
}

const driver = "580.95.05";
const library = (version: string): string => `/usr/lib/x86_64-linux-gnu/libcuda.so.${version}`;

/** The GPUs of one host. */
export class Gpus {
  readonly #folder: string;
  readonly #root: () => string;
  readonly #models: readonly GpuModel[];

  /**
   * @param folder  the host sees it as /var/lib/gpu
   * @param root  where the host's files can be written now: through its own file system while it runs
   */
  constructor(folder: string, root: () => string, models: readonly GpuModel[]) {
    this.#folder = folder;
    this.#root = root;
    this.#models = models;
  }

  /** Puts driver, tool and CDI specification on the host's disk. To be called before its first start. */
  install(): void {
    mkdirSync(this.#folder, { recursive: true });
    writeFileSync(join(this.#folder, "count"), String(this.#models.length));
    mkdirSync(this.#on("/usr/bin"), { recursive: true });
    writeFileSync(this.#on("/usr/bin/nvidia-smi"), readFileSync(join(import.meta.dirname, "nvidia-smi")), { mode: 0o755 });
    this.#write(initialState(this.#models));
    this.#installDriver(driver);
  }

  get state(): GpuState {
    return JSON.parse(readFileSync(join(this.#folder, "state.json"), "utf8")) as GpuState;
  }

  /** Changes what nvidia-smi says from its next start on. */
  change(how: (state: GpuState) => void): void {
    const state = this.state;
    how(state);
    this.#write(state);
  }

  /** Version of the kernel module at the next start of the host. */
  get kernelModule(): string {
    return this.state.driver;
  }

  /** The host was started: the module that is loaded is now that of the driver on its disk. */
  loadModule(): void {
    this.change((state) => (state.kernelModule = state.driver));
  }

  /**
   * What an unattended upgrade does: new libraries on disk, the old module in the kernel. nvidia-smi fails until the host is started
   * again, and a container cannot start with a GPU while the CDI specification still names the old library.
   */
  upgradeDriver(version: string, { specification }: { specification: "old" | "new" } = { specification: "old" }): void {
    const before = this.state.driver;
    this.change((state) => (state.driver = version));
    if (specification === "new") this.#installDriver(version);
    else writeFileSync(this.#on(library(version)), "");
    rmSync(this.#on(library(before)), { force: true });
  }

  #installDriver(version: string): void {
    for (const folder of ["/usr/lib/x86_64-linux-gnu", "/etc/cdi"]) mkdirSync(this.#on(folder), { recursive: true });
    writeFileSync(this.#on(library(version)), "");
    writeFileSync(this.#on("/etc/cdi/nvidia.json"), JSON.stringify(cdiSpecification(this.#models, version), null, 2));
  }

  #on(path: string): string {
    return join(this.#root(), path);
  }

  #write(state: GpuState): void {
    const file = join(this.#folder, "state.json");
    writeFileSync(`${file}.new`, JSON.stringify(state, null, 2));
    renameSync(`${file}.new`, file);
  }
}

function initialState(models: readonly GpuModel[]): GpuState {
  const gpus = models.map((model, index) => ({
    index,
    uuid: model.uuid,
    name: model.name ?? "Tesla T4",
    totalMiB: model.totalMiB ?? 15360,
    reservedMiB: model.reservedMiB ?? 444,
    baseMiB: 3,
    computeCapability: model.computeCapability ?? "7.5",
    temperature: 41,
  }));
  return { driver, kernelModule: driver, gpus, processes: [] };
}

/** As `nvidia-ctk cdi generate` would name things; the devices are harmless, the tool is the stand-in. */
function cdiSpecification(models: readonly GpuModel[], version: string): unknown {
  const bind = (path: string, ...options: string[]): unknown => ({
    hostPath: path,
    containerPath: path,
    options: ["nosuid", "nodev", "bind", ...options],
  });
  const node = (index: number): unknown => ({ path: `/dev/nvidia${index}` });
  const device = (name: string, indices: readonly number[]): unknown => ({
    name,
    containerEdits: {
      deviceNodes: indices.map(node),
      env: [`BED_GPUS=${indices.map((index) => models[index]?.uuid ?? "").join(",")}`],
    },
  });
  return {
    cdiVersion: "0.6.0",
    kind: "nvidia.com/gpu",
    devices: [
      ...models.flatMap(({ uuid }, index) => [device(String(index), [index]), device(uuid, [index])]),
      device(
        "all",
        models.map((_, index) => index),
      ),
    ],
    containerEdits: {
      env: ["NVIDIA_VISIBLE_DEVICES=void"],
      deviceNodes: [{ path: "/dev/nvidiactl" }],
      mounts: [bind("/usr/bin/nvidia-smi", "ro"), bind(library(version), "ro"), bind("/var/lib/gpu", "ro")],
    },
  };
}
