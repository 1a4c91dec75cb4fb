import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { GpuTrials } from "../../../../../cli/src/adapters/targets/compose/gpu-trials.js";
import { hostPreflight, type PreflightParts } from "../../../../../cli/src/adapters/targets/compose/host-preflight.js";
import { readHostView } from "../../../../../cli/src/adapters/targets/compose/observation.js";
import type { GpuContainerProbe, GpuContainerResult } from "../../../../../cli/src/domain/preflight/gpu-container.js";
import type { ServiceSpec } from "../../../../../cli/src/domain/release.js";
import { PreflightRefused } from "../../../../../cli/src/domain/errors.js";
import { mib } from "../../../../../cli/src/domain/units.js";
import type { ProgressEvent } from "../../../../../cli/src/ports.js";
import { specFor } from "../../../../support/records.js";
import { bgeM3, instance, serviceImage } from "../../../compose/nodes.js";
import { df } from "../../../preflight/cases.js";
import { factsOf, needs, type Changes } from "../../../preflight/captures.js";
import { ScriptedHost, type Reply } from "./scripted-host.js";

const never = new AbortController().signal;
const t4 = "GPU-5a1c3d0e-7b52-4f0a-9c1e-0d6a1f2b3c4d";
const running = `registry.example/services@sha256:${"9".repeat(64)}`;
const here = "docker 0 ok\n";

let host: ScriptedHost;
let tried: Omit<GpuContainerProbe, "name" | "look">[];
let events: ProgressEvent[];
beforeEach(() => {
  events = [];
  host = new ScriptedHost();
  tried = [];
});
afterEach(() => host.dispose());

const spec = (device: ServiceSpec["device"] = { prefer: "cuda", require: "cuda", proof: "vram" }): ServiceSpec =>
  specFor({ service: "reranker", device, listen: { host: "10.0.0.5", port: 8002 } });

interface Around {
  changes?: Changes;
  capture?: "t4-ubuntu" | "after-upgrade";
  view?: string;
  result?: GpuContainerResult;
  looked?: GpuContainerProbe["look"];
  gpu?: string | null;
  /** An instance that runs, and its GPU. */
  now?: string | null;
  parts?: Partial<PreflightParts>;
}

function partsOf(around: Around): PreflightParts {
  const { gpu = `nvidia.com/gpu=${t4}`, result = { code: 0, stdout: `GPU 0: Tesla T4 (UUID: ${t4})\n`, stderr: "" } } = around;
  const kept = { ...instance("reranker", "a"), image: running, gpu: around.now ?? null };
  const services =
    around.now === undefined ? [] : [{ service: "reranker", port: 8002, cpuFallback: false, instances: [kept] } as const];
  const parts = {
    commands: host.commands,
    models: { find: async () => null },
    progress: { emit: (event: ProgressEvent): void => void events.push(event) },
    imageOf: () => ({ reference: serviceImage, local: null }),
    companions: [],
    fetching: null,
    gpuOf: async () => gpu,
    view: async () => readHostView(around.view ?? here),
    kept: async () => ({ hostMemory: mib(0), services, images: [] }),
    look: {
      needs,
      facts: async () => factsOf(around.capture ?? "t4-ubuntu", around.changes),
      tryGpu: async (probe: (typeof tried)[number]) => {
        tried.push(probe);
        return { probe: { ...probe, name: "p", look: around.looked ?? ("nvidia-smi" as const) }, result };
      },
    },
    ...around.parts,
  };
  return { trials: new GpuTrials(parts), ...parts };
}

async function preflight(specs: readonly ServiceSpec[], around: Around = {}): Promise<readonly string[]> {
  const found = await hostPreflight(partsOf(around), specs, never);
  return found.filter(({ level }) => level !== "ok").map(({ level, code, what }) => `${level} ${code}: ${what}`);
}

const missing = (reference: string): Reply => ({
  to: `image\\ inspect*${reference}`,
  stderr: "Error response from daemon: No such image: x\n",
  code: 1,
});
const manifest = (bytes: number): Reply => ({
  to: "manifest\\ inspect*",
  stdout: JSON.stringify({ layers: [{ digest: `sha256:${"1".repeat(64)}`, size: bytes }] }),
});

describe("what a deploy looks at on a host", () => {
  it("finds nothing wrong with a good one, and starts a container with the GPU that the service gets", async () => {
    expect(await preflight([spec()])).toEqual([]);
    expect(tried).toEqual([{ image: serviceImage, gpu: t4, device: `nvidia.com/gpu=${t4}`, as: "user" }]);
  });

  it("says what doctor says, once, with the node's name", async () => {
    const found = await preflight([spec()], { capture: "after-upgrade" });
    expect(found).toContain("blocker driver-mismatch: gpu-1: the NVIDIA driver was upgraded and the machine not restarted");
    expect(new Set(found).size).toBe(found.length);
  });

  it("tries the GPU with the image that runs when the new one is not there yet", async () => {
    host.replies([missing(serviceImage), manifest(1e6)]);
    const refused = { code: 125, stdout: "", stderr: "docker: Error response from daemon: something new" };
    const found = await preflight([spec()], { now: `nvidia.com/gpu=${t4}`, result: refused });
    expect(tried.map(({ image }) => image)).toEqual([running]);
    expect(found).toEqual([expect.stringContaining("blocker gpu-container-failed: gpu-1: ")]);
  });

  describe("where no image is there yet", () => {
    const refused = { code: 125, stdout: "", stderr: "docker: Error response from daemon: something new" };
    const nothingThere = (): void => host.replies([missing(serviceImage), manifest(1e6)]);
    const found = [expect.objectContaining({ level: "blocker", code: "gpu-container-failed" })];

    it("starts one as soon as the image came, and refuses with what doctor says, for each GPU once", async () => {
      nothingThere();
      const parts = partsOf({ result: refused });
      await hostPreflight(parts, [spec(), spec()], never);
      expect(tried).toEqual([]);
      const ended = await parts.trials.afterStaging(spec(), never).catch((error: unknown) => error);
      expect(ended).toBeInstanceOf(PreflightRefused);
      expect(ended).toMatchObject({
        exit: "preflightRefused",
        because: expect.stringContaining("gpu-1: ") as string,
        data: { blockers: found },
      });
      expect((ended as PreflightRefused).nextSteps).toContain("gpuctl doctor");
      expect(tried).toEqual([{ image: serviceImage, gpu: t4, device: `nvidia.com/gpu=${t4}`, as: "user" }]);
      await parts.trials.afterStaging(spec(), never);
      expect(tried).toHaveLength(1);
    });

    it("goes on where the GPU can be had, and says what it could not see", async () => {
      nothingThere();
      const parts = partsOf({ looked: "device-nodes", result: { code: 0, stdout: "device node /dev/nvidiactl\n", stderr: "" } });
      await hostPreflight(parts, [spec()], never);
      await parts.trials.afterStaging(spec(), never);
      expect(events).toEqual([{ kind: "warning", text: expect.stringContaining("gpu-1: ") as string }]);
    });

    it("starts none after staging where preflight did, or where nobody asked for one", async () => {
      const parts = partsOf({ result: refused });
      await parts.trials.afterStaging(spec(), never);
      expect(tried).toEqual([]);
      await hostPreflight(parts, [spec()], never);
      await parts.trials.afterStaging(spec(), never);
      expect(tried).toHaveLength(1);
      const onCpu = partsOf({ gpu: null });
      nothingThere();
      await hostPreflight(onCpu, [spec()], never);
      await onCpu.trials.afterStaging(spec(), never);
      expect(tried).toHaveLength(1);
    });
  });

  it("refuses a GPU that cannot be given also where the service would take a CPU: its container would not start", async () => {
    const refused = { code: 125, stdout: "", stderr: "docker: Error response from daemon: something new" };
    const found = await preflight([spec({ prefer: "cuda", require: null, proof: "self" })], { result: refused });
    expect(found).toEqual([expect.stringContaining("blocker gpu-container-failed")]);
  });

  it("lets a release come back under a wrong clock where nothing has to be fetched for it", async () => {
    const clock = { seen: true, value: { skewMs: 3_600_000, boundMs: 50, synchronised: true } } as const;
    const tryGpu: PreflightParts["look"]["tryGpu"] = async (probe) => ({
      probe: { ...probe, name: "p", look: "nvidia-smi" },
      result: { code: 0, stdout: `GPU 0: Tesla T4 (UUID: ${t4})\n`, stderr: "" },
    });
    const parts = { look: { needs, facts: async () => ({ ...factsOf("t4-ubuntu"), clock }), tryGpu } };
    expect(await preflight([spec()], { parts })).toEqual([expect.stringContaining("warning clock-wrong: gpu-1: clock 3600.0 s")]);
    host.replies([missing(serviceImage), manifest(1e6)]);
    expect(await preflight([spec()], { parts })).toContainEqual(expect.stringContaining("blocker clock-wrong: gpu-1: clock"));
  });

  it("does not let a service fall from its GPU to the CPU", async () => {
    const wish = spec({ prefer: "auto", require: null, proof: "self" });
    const found = await preflight([wish], { capture: "after-upgrade", gpu: null, now: `nvidia.com/gpu=${t4}` });
    expect(found).toContain("blocker gpu-lost: reranker runs on a GPU of gpu-1, and its successor could not");
    const first = await preflight([wish], { capture: "after-upgrade", gpu: null });
    expect(first.filter((each) => each.startsWith("blocker"))).toEqual([]);
  });

  it("asks for no GPU where a release that computes on the CPU is put back", async () => {
    const found = await preflight([spec({ prefer: "cpu", require: null, proof: "self" })], {
      capture: "after-upgrade",
      gpu: null,
    });
    expect(found.filter((each) => each.startsWith("blocker"))).toEqual([]);
    expect(tried).toEqual([]);
  });

  it("looks only at Docker and the directory where nothing is started", async () => {
    const facts = async (): Promise<never> => Promise.reject(new Error("nobody asked for this"));
    const parts = { look: { needs, facts, tryGpu: facts } };
    expect(await preflight([], { parts })).toEqual([]);
    const silent = "docker 1 Cannot connect to the Docker daemon\n";
    expect(await preflight([], { parts, view: silent })).toEqual(["blocker docker-silent: Docker on gpu-1 does not answer"]);
  });
});

describe("memory for what is started", () => {
  it("has the size of the models that the release names, as far as they are here", async () => {
    const memory: Changes = { memory: [0, "MemTotal: 32000000 kB\nMemAvailable: 1000 kB\n"] };
    const because = async (bytes: number | null): Promise<string | undefined> => {
      const find = async (): Promise<never> => (bytes === null ? null : { ref: bgeM3, bytes }) as never;
      const around = { changes: memory, parts: { models: { find } } };
      const found = await hostPreflight(partsOf(around), [{ ...spec(), model: bgeM3 }], never);
      return found.find(({ code }) => code === "memory-low")?.because;
    };
    expect(await because(2 * 2 ** 30)).toContain("needs about 4.5 GiB");
    expect(await because(null)).toMatch(/needs about 2.5 GiB .* not known is not counted$/);
  });
});

describe("room for what is brought", () => {
  const free = (kibibytes: number): Changes => ({
    "docker-disk": [0, `/var/lib/docker\n${df(kibibytes).replaceAll("nvme0n1p2", "sdb1")}`],
  });

  it("is three times what the registry sends, and the models, and a fifth", async () => {
    host.replies([missing(serviceImage), manifest(1e9), { to: "volume\\ inspect*", code: 1 }]);
    const model = { ref: bgeM3, bytes: 0.5e9 } as never;
    const parts = { models: { find: async () => model } };
    const wish = { ...spec(), model: bgeM3 };
    // 3 * 1.0 + 0.5 GB and a fifth are 4.2 GB: 4,101,562.5 KiB.
    expect(await preflight([wish], { parts, changes: free(4_101_563) })).toEqual([]);
    const found = await preflight([wish], { parts, changes: free(4_101_562) });
    expect(found).toEqual(["blocker disk-full: gpu-1: /var/lib/docker: 4.2 GB free for images and models"]);
  });

  it("leaves out the layers that the host has", async () => {
    const layer = "5".repeat(64);
    host.replies([
      missing(serviceImage),
      manifest(1e9),
      { to: "info*DockerRootDir*", stdout: `${host.directory}/docker\n` },
      { to: "image\\ ls*", stdout: "sha256:aa\n" },
      { to: "image\\ inspect*RootFS*", stdout: `sha256:${layer} \n` },
    ]);
    host.file(`docker/image/overlay2/distribution/diffid-by-digest/sha256/${"1".repeat(64)}`, `sha256:${layer}`);
    expect(await preflight([spec()], { changes: free(100_000) })).toEqual([]);
  });

  describe("of an image that is sent from here", () => {
    const id = `sha256:${"7".repeat(64)}`;
    const layers = [`sha256:${"1".repeat(64)}`, `sha256:${"2".repeat(64)}`];
    const sent = (bytes: number | null): Partial<PreflightParts> => ({
      imageOf: () => ({
        reference: id,
        local: {
          look: async () => (bytes === null ? null : { bytes, layers }),
          open: async () => Promise.reject(new Error("preflight saves nothing")),
        },
      }),
    });
    /** Of Docker's disk and of another one for the data directory, or of one disk for both. */
    const disks = (docker: number, data: number): Changes => ({
      ...free(docker),
      "data-disk": [0, `folder\nwritable\n${df(data)}/var/lib/gpuctl\n`],
    });
    const oneDisk = (kibibytes: number): Changes => ({
      "docker-disk": [0, `/var/lib/docker\n${df(kibibytes)}`],
      "data-disk": [0, `folder\nwritable\n${df(kibibytes)}/var/lib/gpuctl\n`],
    });
    const found = (changes: Changes, bytes: number | null = 1e9): Promise<readonly string[]> =>
      preflight([spec()], { parts: sent(bytes), changes });
    beforeEach(() => host.replies([missing(id), { to: "info*", stdout: `${host.directory}/docker overlay2\n` }]));

    it("is twice the image for Docker, and one and a half, with 100 MB of records, for the data directory", async () => {
      // 2.0 GB and a fifth are 2,343,750 KiB; 1.6 GB and a fifth are 1,875,000 KiB.
      expect(await found(disks(2_343_750, 1_875_000))).toEqual([]);
      expect(await found(disks(2_343_749, 1_875_000))).toEqual([
        "blocker disk-full: gpu-1: /var/lib/docker: 2.4 GB free for images and models",
      ]);
      expect(await found(disks(2_343_750, 1_874_999))).toEqual([
        "blocker disk-full: gpu-1: /var/lib/gpuctl: 1.9 GB free for records",
      ]);
    });

    it("is the sum of both where they are one disk, and the reader is told of the detour and how to do without", async () => {
      // 3.6 GB and a fifth are 4,218,750 KiB.
      expect(await found(oneDisk(4_218_750))).toEqual([]);
      const around = { parts: sent(1e9), changes: oneDisk(4_218_749) };
      const [full] = (await hostPreflight(partsOf(around), [spec()], never)).filter(({ level }) => level === "blocker");
      expect(full?.because).toContain(
        "3.6 GB are to be brought, with what is sent without a registry and waits for Docker in /var/",
      );
      expect(full?.nextSteps?.join("\n")).toContain("registry: { server: ADDRESS }");
    });

    it("leaves out the layers that Docker has and the parts that an ended command left", async () => {
      host.file(`docker/image/overlay2/layerdb/sha256/${"1".repeat(64)}/size`, "900000000");
      // 2 * 0.1 GB and a fifth are 234,375 KiB; 1.5 * 0.1 + 0.1 GB and a fifth are 292,968.75 KiB.
      expect(await found(disks(234_375, 292_969))).toEqual([]);
      expect(await found(disks(234_375, 292_968))).toEqual([expect.stringContaining("disk-full: gpu-1: /var/lib/gpuctl")]);
      host.file(`data/.incoming/${"7".repeat(24)}/part.gz`, "x".repeat(10_000_000));
      expect(await found(disks(234_375, 281_250))).toEqual([]);
    });

    it("counts every layer for an engine with containerd's store, which wants all of them", async () => {
      host.replies([missing(id), { to: "info*", stdout: `${host.directory}/docker overlayfs\n` }]);
      host.file(`docker/image/overlay2/layerdb/sha256/${"1".repeat(64)}/size`, "900000000");
      expect(await found(disks(2_343_749, 1_875_000))).toEqual([expect.stringContaining("disk-full")]);
    });

    it("is not known where this machine does not have it", async () => {
      const places = (await found(disks(9e6, 9e6), null)).map((each) => each.replace(/: gpu-1: .* free/, ""));
      expect(places).toEqual(["warning disk-low for images and models", "warning disk-low for records"]);
    });
  });

  it("is not known where the registry does not say, which is no refusal", async () => {
    host.replies([missing(serviceImage), { to: "manifest\\ inspect*", code: 1, stderr: "no such host" }]);
    const found = await preflight([spec()], { changes: free(9e6) });
    expect(found).toEqual(["warning disk-low: gpu-1: /var/lib/docker: 9.2 GB free for images and models"]);
  });

  it("a model that nobody has stops the deploy", async () => {
    host.replies([{ to: "volume\\ inspect*", code: 1 }]);
    const found = await preflight([{ ...spec(), model: bgeM3 }]);
    expect(found).toEqual([`blocker model-missing: the model ${bgeM3.name} is neither on gpu-1 nor here`]);
  });
});
