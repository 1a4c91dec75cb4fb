/** The image and the Compose files, used by hand on a host of the bed: real model, real Docker. */
import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Bed } from "../support/bed/bed.js";
import { ComposeProject } from "../support/bed/compose-project.js";
import type { BedHost } from "../support/bed/host.js";
import { buildServices, serviceImage, stubGpuImage } from "../support/bed/images.js";
import { limitsOf } from "../support/bed/limits.js";
import { until } from "../support/until.js";

const services = { embedder: 8001, reranker: 8002, index: 8003 } as const;

describe("docker compose up", () => {
  let bed: Bed;
  let host: BedHost;
  let project: ComposeProject;
  let image: string;

  beforeAll(async () => {
    const [name, stub] = [await serviceImage(), await stubGpuImage()];
    bed = await Bed.start([{ name: "box", gpus: [{ uuid: "GPU-5a1c3d0e-7b52-4f0a-9c1e-0d6a1f2b3c4d" }] }]);
    host = bed.host("box");
    image = `${bed.registry.address}/${name}`;
    await host.must(["docker", "pull", "--quiet", image], { timeoutMs: 300_000 });
    project = new ComposeProject(host);
    const gpuImage = `${bed.registry.address}/${stub}`;
    await host.must(["docker", "pull", "--quiet", gpuImage], { timeoutMs: 300_000 });
    await project.install({ IMAGE: image, GPU_IMAGE: gpuImage });
    await project.must(["up", "--detach", "--wait", "--no-build"]);
  }, 1_800_000);

  afterAll(async () => {
    await bed.stop();
  });

  const traffic = async (port: number): Promise<number> => (await project.request(port, "/health/traffic")).status;
  const inside = async (service: string, ...command: string[]): Promise<string> =>
    (await project.inside(service, command)).stdout;

  test("embeds, reranks, indexes and finds", async () => {
    const embedded = await project.request(services.embedder, "/embed", { inputs: ["a wombat"] });
    expect(embedded.status).toBe(200);
    expect((embedded.body as number[][])[0]).toHaveLength(384);
    const ranked = await project.request(services.reranker, "/rerank", {
      query: "wombats",
      texts: ["stock prices", "wombats dig"],
    });
    expect(ranked).toMatchObject({ status: 200, body: [{ index: 1 }, { index: 0 }] });
    const item = { id: "a", text: "wombats dig burrows" };
    const added = await project.request(services.index, "/api/v1/vector-store/add", { items: [item] });
    expect(added.status).toBe(200);
    const found = await project.request(services.index, "/api/v1/vector-store/search", { text: "burrows", k: 1 });
    expect(found).toMatchObject({ status: 200, body: { results: [[{ id: "a" }]] } });
  });

  test("no service complains about what it was told", async () => {
    const said = await project.must(["logs", "--no-log-prefix"]);
    expect(said).toContain('"level":"info"');
    expect(said.split("\n").filter((line) => /"level":"(?:warning|error)"/.test(line))).toEqual([]);
  });

  test("each runs as nobody in particular, without a capability, on files that it cannot change", async () => {
    for (const service of Object.keys(services)) {
      expect(await inside(service, "id", "-u")).toBe("10001\n");
      const status = await inside(service, "cat", "/proc/1/status", "/proc/self/status");
      expect(status.match(/^Cap(Eff|Prm|Bnd):\s+0+$/gm)).toHaveLength(6);
      expect(status.match(/^NoNewPrivs:\s+1$/gm)).toHaveLength(2);
      for (const path of ["/opt/gpuctl/x", "/etc/x", "/models/x"])
        expect((await project.inside(service, ["touch", path])).stderr).toMatch(
          /Read-only file system|Permission denied|No such file/,
        );
      expect((await project.inside(service, ["touch", "/opt/gpuctl/x"])).stderr).toContain("Read-only file system");
    }
  });

  test("each has a limit of memory and of processes, a log that is rotated, and time to end", async () => {
    for (const [service, memoryMiB] of [
      ["embedder", 4096],
      ["reranker", 4096],
      ["index", 2048],
    ] as const) {
      const id = (await project.must(["ps", "--quiet", service])).trim();
      expect(await limitsOf(host, id), service).toMatchObject({
        memoryMiB,
        pids: 2048,
        restart: "unless-stopped",
        stopSeconds: 45,
        log: { driver: "json-file", options: { "max-size": "16m", "max-file": "5" } },
      });
    }
  });

  test("the image holds no compiler, no installer and no model, and says what it is", async () => {
    expect((await project.inside("embedder", ["python3", "-m", "pip"])).stderr).toContain("No module named pip");
    expect((await project.inside("embedder", ["python3", "-m", "ensurepip"])).stderr).toContain("No module named ensurepip");
    for (const tool of ["cc", "gcc", "pip", "pip3", "make"])
      expect((await project.inside("embedder", ["sh", "-c", `command -v ${tool}`])).code).not.toBe(0);
    const shipped = await host.must([
      "docker",
      "run",
      "--rm",
      "--user",
      "0",
      image,
      "find",
      "/",
      "-xdev",
      "-name",
      "*.onnx",
      "-o",
      "-name",
      "*.safetensors",
    ]);
    expect(shipped).toBe("");
    const labels = JSON.parse(await host.must(["docker", "inspect", "--format", "{{json .Config.Labels}}", image])) as object;
    expect(labels).toMatchObject({
      "org.opencontainers.image.version": "0.0.0-test",
      "org.opencontainers.image.revision": "unknown",
      "org.opencontainers.image.created": "1970-01-01T00:00:00Z",
      "gpuctl.device": "cpu",
    });
    const history = await host.must(["docker", "history", "--no-trunc", "--format", "{{.CreatedBy}}", image]);
    expect(history).not.toContain(bed.proxy.url);
  });

  test("a device that is none is refused", async () => {
    const refused = await buildServices(bed, host, image, "gpuctl-services:refused", ["--build-arg", "DEVICE=tpu"]).catch(String);
    expect(refused).toContain("DEVICE=tpu: must be cpu or cuda");
  });

  test("its ports are the host's own: nobody reaches them from outside", async () => {
    for (const port of Object.values(services)) expect(await refuses(host.address, port)).toBe(true);
    expect(await refuses(host.address, 22)).toBe(false);
  });

  test("a paused gate stays paused over restarts of the container, of Docker and of the host", async () => {
    expect(await traffic(services.reranker)).toBe(200);
    await project.must(["exec", "-T", "reranker", "gpuctl-service", "traffic", "paused"]);
    const stays = async (what: string): Promise<void> => {
      await until(async () => (await traffic(services.embedder)) === 200, `the embedder is back after ${what}`, 120_000);
      const ready = async (): Promise<boolean> => (await project.request(services.reranker, "/health/ready")).status === 200;
      await until(ready, `the reranker is back after ${what}`, 120_000);
      expect(await project.request(services.reranker, "/health/traffic")).toMatchObject({
        status: 503,
        body: { status: "paused" },
      });
    };
    await project.must(["restart", "reranker"]);
    await stays("a restart of the container");
    await project.must(["up", "--detach", "--wait", "--no-build", "--force-recreate", "reranker"]);
    await stays("a new container");
    await host.restartDocker();
    await stays("a restart of Docker");
    await host.reboot();
    await stays("a restart of the host");
    await project.must(["exec", "-T", "reranker", "gpuctl-service", "traffic", "open"]);
    expect(await traffic(services.reranker)).toBe(200);
  });

  test("asked to stop, a service answers what it has begun and ends with 0 within its grace period", async () => {
    const texts = Array.from({ length: 200 }, (_, n) => `wombat ${n} ${"digs a burrow in the forest ".repeat(20)}`);
    const answer = project.request(services.reranker, "/rerank", { query: "wombats", texts });
    const inflight = async (): Promise<boolean> => {
      const status = await inside("reranker", "gpuctl-service", "ask", "GET", "/private/status");
      return status !== "" && (JSON.parse(status) as { inflight: number }).inflight > 0;
    };
    await until(inflight, "the request is being answered", 30_000);
    await project.must(["stop", "reranker"]);
    expect((await answer).status).toBe(200);
    const id = (await project.must(["ps", "--all", "--quiet", "reranker"])).trim();
    expect(await host.must(["docker", "inspect", "--format", "{{.State.ExitCode}}", id])).toBe("0\n");
    await project.must(["up", "--detach", "--wait", "--no-build"]);
  });

  test("with the overlay for GPUs the embedder and the reranker get the one that is named", async () => {
    const rendered = JSON.parse(await project.must(["config", "--format", "json"], ["gpu"])) as {
      services: Record<string, { deploy?: object }>;
    };
    expect(rendered.services["embedder"]?.deploy).toMatchObject({
      resources: { reservations: { devices: [{ driver: "cdi", device_ids: ["nvidia.com/gpu=all"] }] } },
    });
    expect(rendered.services["index"]?.deploy).toBeUndefined();
    await project.must(["up", "--detach", "--wait", "--no-build"], ["gpu"]);
    for (const service of ["embedder", "reranker"] as const) {
      expect(await inside(service, "nvidia-smi", "-L")).toContain("Tesla T4");
      expect((await project.request(services[service], "/health")).body).toMatchObject({ status: "healthy", device: "cuda" });
    }
    // Their engines' processes are found from outside: by the control group of their container.
    const apps = await host.must(["nvidia-smi", "--query-compute-apps=pid", "--format=csv,noheader"]);
    const groups = await Promise.all(
      apps
        .trim()
        .split("\n")
        .map((pid) => host.must(["cat", `/proc/${pid}/cgroup`])),
    );
    const containers = (await project.must(["ps", "--quiet", "embedder", "reranker"])).trim().split("\n");
    expect(groups).toHaveLength(2);
    for (const container of containers) expect(groups.filter((text) => text.includes(container))).toHaveLength(1);
  });

  test("the overlays for CPUs and for Redis are ones that Compose understands", async () => {
    const cpu = JSON.parse(await project.must(["config", "--format", "json"], ["cpu", "redis"])) as {
      services: Record<string, { cpus?: number; environment: Record<string, string>; networks: object }>;
    };
    expect(cpu.services["embedder"]).toMatchObject({
      cpus: 2,
      environment: { GPUCTL_DEVICE: "cpu", GPUCTL_INSTANCE: "embedder" },
    });
    expect(Object.keys(cpu.services["reranker"]!.networks).sort()).toEqual(["cache", "services"]);
    expect(Object.keys(cpu.services["redis"]!.networks)).toEqual(["cache"]);
  });
});

/** Whether nobody accepts connections there. */
function refuses(address: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port, timeout: 3000 });
    const settle = (answer: boolean) => () => {
      socket.destroy();
      resolve(answer);
    };
    socket.once("connect", settle(false)).once("error", settle(true)).once("timeout", settle(true));
  });
}
