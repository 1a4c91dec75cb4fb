/** The image for GPUs, built for real, on a host whose card is a stand-in without a driver: what it holds, says, and computes there. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Bed } from "../support/bed/bed.js";
import { ComposeProject } from "../support/bed/compose-project.js";
import type { BedHost } from "../support/bed/host.js";
import { baseImage, buildServices } from "../support/bed/images.js";
import { until } from "../support/until.js";

const image = "gpuctl-services:cuda";
const port = 8001;
let bed: Bed;
let host: BedHost;
let project: ComposeProject;

beforeAll(async () => {
  const name = await baseImage();
  bed = await Bed.start([{ name: "box", gpus: [{ uuid: "GPU-5a1c3d0e-7b52-4f0a-9c1e-0d6a1f2b3c4d" }] }]);
  host = bed.host("box");
  const base = `${bed.registry.address}/${name}`;
  await host.must(["docker", "pull", "--quiet", base], { timeoutMs: 300_000 });
  await buildServices(bed, host, base, image, ["--build-arg", "DEVICE=cuda"]);
  project = new ComposeProject(host);
}, 1_800_000);

afterAll(async () => {
  await bed.stop();
});

async function started(overlays: readonly string[], settings: Readonly<Record<string, string>>): Promise<void> {
  await project.compose(["down", "--timeout", "5"]);
  await project.install({ IMAGE: image, GPU_IMAGE: image, ...settings });
  await project.must(["up", "--detach", "--no-build", "embedder"], overlays);
  await loaded();
}

const embed = (): ReturnType<ComposeProject["request"]> =>
  project.request(port, "/embed", { inputs: ["wombats dig burrows"] }).catch(() => ({ status: 0, body: null }));

async function loaded(): Promise<void> {
  const answers = async (): Promise<boolean> => {
    const { status, body } = await embed();
    return status !== 0 && !JSON.stringify(body).includes("is loading");
  };
  await until(answers, "it has loaded", 180_000);
}

const vector = async (): Promise<number[]> => {
  const { status, body } = await embed();
  expect([status, body]).toEqual([200, expect.anything()]);
  return (body as number[][])[0]!;
};

/** Starts the index in a container of its own and prints its FAISS, its `/health` and one answer of it. */
const startsAnIndex = `
import json, subprocess, sys, time, urllib.request as web
import faiss
child = subprocess.Popen([sys.executable, "-m", "gpuctl_serving.index"], stdout=sys.stderr)
def ask(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = web.Request("http://127.0.0.1:8003" + path, data, {"content-type": "application/json"})
    return json.load(web.urlopen(request, timeout=20))
def health():
    for _ in range(300):
        try:
            return ask("/health")
        except OSError:
            time.sleep(0.2)
health()
store = "/api/v1/vector-store"
ask(store + "/add", {"items": [{"id": "a", "vector": [1, 0]}, {"id": "b", "vector": [0, 1]}]})
found = ask(store + "/search", {"vector": [0.1, 1], "k": 1, "include": []})
said = {"gpus": faiss.get_num_gpus(), "forGpus": hasattr(faiss, "StandardGpuResources"), "health": health(), "found": found}
print(json.dumps(said))
child.kill()
`;

/** One process with both: which CUDA libraries it holds by major version, and what each of the two computes there. */
const loadsBoth = `
import json, re
import torch, faiss
flat = faiss.IndexFlatIP(2)
flat.add(torch.eye(2).numpy())
found = flat.search((torch.tensor([[0.1, 0.0]]) + torch.tensor([[0.0, 1.0]])).numpy(), 1)[1]
cublas = sorted(set(re.findall(r"/libcublas[^/]*[.]so[.]([0-9]+)", open("/proc/self/maps").read())))
cuda = [torch.version.cuda.split(".")[0], torch.cuda.is_available()]
print(json.dumps({"torch": cuda, "faissForGpus": hasattr(faiss, "StandardGpuResources"), "cublas": cublas, "found": found.tolist()}))
`;

describe("the image for GPUs", () => {
  test("has a FAISS for GPUs, with which the index starts and answers on the CPU where there is no card", async () => {
    const env = ["-e", "GPUCTL_INDEX_DIR=/tmp/index", "-e", "GPUCTL_PORT=8003", "-e", "GPUCTL_DEVICE=cuda"];
    const run = ["docker", "run", "--rm", "--entrypoint", "python", ...env, image, "-c", startsAnIndex];
    const { gpus, forGpus, health, found } = JSON.parse(await host.must(run, { timeoutMs: 180_000 })) as Record<string, unknown>;
    expect([gpus, forGpus]).toEqual([0, true]);
    expect(health).toMatchObject({
      status: "degraded",
      device: "cpu",
      device_reason: "provider-absent",
      replica: { state: "off", detail: "this machine has no NVIDIA GPU" },
    });
    expect(found).toMatchObject({ device: "cpu", results: [[{ id: "b" }]] });
  });

  test("holds PyTorch and FAISS with CUDA's libraries of both, which one process loads; no installer and no compiler", async () => {
    const said = await host.must(["docker", "run", "--rm", image, "python", "-c", loadsBoth], { timeoutMs: 180_000 });
    const both = { torch: ["13", false], faissForGpus: true, cublas: ["12", "13"], found: [[1]] };
    expect(JSON.parse(said)).toEqual(both);
    const tools = "for t in cc gcc pip pip3 nvcc make; do command -v $t; done; python -m pip 2>&1 | tail -1";
    expect(await host.must(["docker", "run", "--rm", image, "sh", "-c", tools])).toMatch(/^\S+: No module named pip\n$/);
    const format = "{{json .Config.Labels}}";
    expect(JSON.parse(await host.must(["docker", "inspect", "--format", format, image]))).toMatchObject({
      "gpuctl.device": "cuda",
    });
  });

  test("answers 503 where the card that is required cannot be used, and says so", async () => {
    await started(["gpu"], {});
    const { status, body } = await embed();
    expect(status).toBe(503);
    expect(JSON.stringify(body)).toContain("GPUCTL_REQUIRE=cuda, but the proven device is");
  });

  test("lets the CPU stand in where nothing is required, and PyTorch computes the same there as ONNX Runtime", async () => {
    await started(["gpu"], { GPU_REQUIRE: "" });
    const byOnnx = await vector();
    expect((await project.request(port, "/info")).body).toMatchObject({ device: "cpu" });
    await project.must(["down", "--timeout", "5"], ["gpu"]);
    const env = ["-e", "GPUCTL_ENGINE=torch-cpu", "-e", "GPUCTL_DEVICE=cpu"];
    await project.must(["run", "--detach", "--service-ports", ...env, "embedder"]);
    await loaded();
    const byTorch = await vector();
    expect(JSON.stringify((await project.request(port, "/info")).body)).toContain("torch-cpu");
    expect(byTorch.reduce((sum, value, position) => sum + value * byOnnx[position]!, 0)).toBeGreaterThan(0.9999);
  });
});
