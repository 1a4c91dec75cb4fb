import { describe, expect, it } from "vitest";
import { ModelLock } from "../../../cli/src/adapters/models/model-lock.js";
import { imagesBuild, type ImageRequest } from "../../../cli/src/app/images-build.js";
import { imagesCacheClear, imagesCacheSetup, imagesCacheStats } from "../../../cli/src/app/images-cache.js";
import { imagesPush } from "../../../cli/src/app/images-push.js";
import type { EnvironmentConfig, ServiceConfig } from "../../../cli/src/domain/config/resolved.js";
import { ConfigInvalid, Failed, PreflightRefused, TargetUnreachable, UsageError } from "../../../cli/src/domain/errors.js";
import { DockerHere, registryDigest } from "../../fakes/docker-here.js";
import { projectConfig } from "../../support/project-config.js";
import { temporaryDirectories } from "../../support/temporary.js";

const temporary = temporaryDirectories();
const request = (more: Partial<ImageRequest> = {}): ImageRequest => ({
  devices: ["cpu"],
  buildArgs: [],
  secrets: [],
  sbom: true,
  env: {},
  ...more,
});

function project(settings: object = { registry: { server: "192.0.2.1:5000" } }, services: object = {}): EnvironmentConfig {
  const targetSettings = { target: "compose", nodes: {}, ...settings } as unknown as EnvironmentConfig["targetSettings"];
  const config = projectConfig(temporary());
  return {
    ...config,
    target: "compose",
    services: services,
    ...(targetSettings && { targetSettings }),
  };
}

const service = (name: string, device: object): Partial<ServiceConfig> =>
  ({ service: name, device: { prefer: "auto", require: null, proof: "self", ...device } }) as Partial<ServiceConfig>;

const withLock = (docker: DockerHere, config: EnvironmentConfig) => ({
  ...docker.tools(),
  lock: new ModelLock(config.projectFile),
});

describe("images build", () => {
  it("builds by one argv, in which nothing of the environment stands", async () => {
    const docker = new DockerHere();
    const build = request({
      buildArgs: ["BASE_IMAGE=mirror.example.net/python:3.13-slim-trixie", "HTTPS_PROXY"],
      secrets: ["id=ca,src=ca.pem"],
      env: { HTTPS_PROXY: "http://user:pass@proxy:3128" },
    });
    const { images } = await imagesBuild(docker.tools(), project(), build);
    const ref = images[0]!.image;
    expect(ref).toMatch(/^gpuctl-services:cpu-[0-9a-f]{16}$/);
    expect(docker.changes).toEqual([
      `docker buildx build --builder default --progress plain --tag ${ref} --load --provenance=false --sbom=false ` +
        `--label gpuctl.contents=${images[0]!.contents} --build-arg DEVICE=cpu --build-arg VERSION=1.2.3 --build-arg REVISION=unknown ` +
        "--build-arg BASE_IMAGE=mirror.example.net/python:3.13-slim-trixie --build-arg HTTPS_PROXY --secret id=ca,src=ca.pem " +
        "/package/compose/services",
    ]);
    const ran = docker.executor.commands.find(({ argv }) => argv.includes("build"));
    expect(ran?.env).toEqual({ HTTPS_PROXY: "http://user:pass@proxy:3128" });
    expect(images[0]).toMatchObject({ outcome: "built", steps: { total: 2, cached: 1 }, bytes: 407_000_000 });
    expect(docker.last).toMatchObject({ image: ref, builder: "default", total: 2, cached: 1 });
  });

  it("says that Docker's own builder attests nothing, and what would", async () => {
    const docker = new DockerHere();
    const { images } = await imagesBuild(docker.tools(), project(), request());
    expect(images[0]!.attestations).toEqual({
      sbom: false,
      provenance: false,
      because: "the builder default (driver docker) cannot write them; one that can: gpuctl images cache setup",
    });
  });

  it("builds nothing when the same contents are there, and says so", async () => {
    const docker = new DockerHere();
    const first = await imagesBuild(docker.tools(), project(), request());
    const second = await imagesBuild(docker.tools(), project(), request({ buildArgs: ["HTTPS_PROXY=http://proxy"] }));
    expect(second.images[0]).toMatchObject({
      image: first.images[0]!.image,
      outcome: "present",
      steps: null,
      attestations: null,
    });
    expect(docker.changes).toHaveLength(1);
    expect(docker.progress.events.at(-1)).toMatchObject({ text: expect.stringContaining("is there already") as string });
  });

  it("takes the devices that the services can need", async () => {
    const devices = async (services: object): Promise<string[]> => {
      const { images } = await imagesBuild(new DockerHere().tools(), project({}, services), request({ devices: [] }));
      return images.map(({ device }) => device);
    };
    const cuda = service("embedder", { prefer: "cuda" });
    expect(await devices({ embedder: cuda })).toEqual(["cuda"]);
    expect(await devices({ embedder: cuda, index: service("index", {}) })).toEqual(["cpu", "cuda"]);
    expect(await devices({ index: service("index", { prefer: "cuda" }) })).toEqual(["cuda"]);
    expect(await devices({ embedder: service("embedder", { prefer: "cpu" }) })).toEqual(["cpu"]);
    expect(await devices({ embedder: { ...service("embedder", {}), gpu: "GPU-1" } })).toEqual(["cuda"]);
    expect(await devices({ reranker: service("reranker", {}) })).toEqual(["cpu", "cuda"]);
    expect(await devices({})).toEqual(["cpu", "cuda"]);
  });

  it("names the commit only when gpuctl itself is the checkout", async () => {
    const docker = new DockerHere();
    const commit = "c".repeat(40);
    let changed = "";
    docker.answer = (argv) => {
      if (argv[0] !== "git") return null;
      if (argv.includes("rev-parse")) return { stdout: "\n" };
      return { stdout: argv.includes("log") ? `${commit} 2026-11-21T10:00:00+00:00\n` : changed };
    };
    await imagesBuild(docker.tools(), project(), request());
    expect(docker.changes[0]).toContain(`REVISION=${commit} --build-arg CREATED=2026-11-21T10:00:00+00:00`);
    changed = " M compose/services/Dockerfile\n";
    docker.images.clear();
    await imagesBuild(docker.tools(), project(), request());
    expect(docker.changes[1]).toContain(`REVISION=${commit}-dirty`);
    docker.images.clear();
    docker.answer = (argv) => (argv[0] === "git" ? { stdout: "node_modules/gpuctl/\n" } : null);
    await imagesBuild(docker.tools(), project(), request());
    expect(docker.changes[2]).toContain("REVISION=unknown");
    docker.images.clear();
    docker.packed = { revision: "d".repeat(40), created: "2026-11-20T10:00:00+00:00" };
    await imagesBuild(docker.tools(), project(), request());
    expect(docker.changes[3]).toContain(`REVISION=${"d".repeat(40)} --build-arg CREATED=2026-11-20T10:00:00+00:00`);
  });

  it("warns when the environment deploys another image than the built one", async () => {
    const docker = new DockerHere();
    await imagesBuild(docker.tools(), project({ images: { services: "acme/other:1" } }), request());
    expect(docker.progress.warnings).toEqual([expect.stringContaining("deploys acme/other:1")]);
  });

  it.each([
    [
      "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?",
      TargetUnreachable,
      /systemctl start docker/,
    ],
    ["permission denied while trying to connect to the Docker daemon socket", PreflightRefused, /usermod -aG docker/],
    ["docker: unknown command: docker buildx", PreflightRefused, /docker-buildx-plugin/],
    ["write /var/lib/docker/x: no space left on device", Failed, /images cache clear/],
    ["nosuch/base:1: failed to resolve source metadata for docker.io/nosuch/base:1: i/o timeout", Failed, /BASE_IMAGE=/],
    ["ERROR: No matching distribution found for anyio==4.16.0", Failed, /PIP_INDEX_URL=/],
    ["THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", Failed, /other files than the lock/],
    ["failed to stat /nowhere: no such file or directory", Failed, /--secret/],
    ["docker.io/docker/buildkit-syft-scanner:stable-1: failed to do request", Failed, /--no-sbom/],
    ["something new", Failed, /docker info/],
  ])("that fails with %s says what to do", async (stderr, kind, next) => {
    const docker = new DockerHere();
    docker.answer = (argv) => (argv.includes("build") ? { code: 1, stderr: `------\n${stderr}\n` } : null);
    const failure = imagesBuild(docker.tools(), project(), request());
    await expect(failure).rejects.toMatchObject({
      constructor: kind,
      because: stderr,
      nextSteps: expect.arrayContaining([expect.stringMatching(next)]) as unknown,
    });
  });

  it("without docker says where it comes from", async () => {
    const docker = new DockerHere();
    docker.answer = (argv) => {
      if (argv[0] === "docker") throw new TargetUnreachable("docker could not be started");
      return null;
    };
    await expect(imagesBuild(docker.tools(), project(), request())).rejects.toMatchObject({
      constructor: PreflightRefused,
      nextSteps: [expect.stringContaining("docs.docker.com/engine/install"), "gpuctl images build"] as unknown,
    });
  });
});

describe("images push", () => {
  it("builds, pushes and pins what is missing, and does nothing more when all of it is there", async () => {
    const docker = new DockerHere();
    const config = project();
    const tools = withLock(docker, config);
    const { images } = await imagesPush(tools, config, request());
    const { ref, contents } = images[0]!;
    expect(ref).toMatch(/^192\.0\.2\.1:5000\/gpuctl-services:cpu-[0-9a-f]{16}$/);
    expect(images[0]).toMatchObject({ outcome: "pushed", pinned: `192.0.2.1:5000/gpuctl-services@${registryDigest}` });
    expect(docker.changes.slice(1)).toEqual([expect.stringMatching(/^docker tag gpuctl-services:\S+ /), `docker push ${ref}`]);
    expect(await tools.lock.readImages()).toEqual({ "services-cpu": { ref, digest: registryDigest, contents } });
    expect((await imagesPush(tools, config, request())).images[0]).toMatchObject({ outcome: "present", attestations: null });
    expect(docker.changes).toHaveLength(3);
  });

  it("takes the digest of what somebody else pushed, and never writes over a tag", async () => {
    const docker = new DockerHere();
    const [theirs, ours] = [project(), project()];
    await imagesPush(withLock(docker, theirs), theirs, request());
    docker.images.clear();
    const tools = withLock(docker, ours);
    expect((await imagesPush(tools, ours, request())).images[0]).toMatchObject({ outcome: "present" });
    expect(docker.changes).toHaveLength(3);
    expect((await tools.lock.readImages())["services-cpu"]?.digest).toBe(registryDigest);
  });

  it("pushes again what the lock pins and the registry has lost", async () => {
    const docker = new DockerHere();
    const config = project();
    const tools = withLock(docker, config);
    await imagesPush(tools, config, request());
    docker.registry.clear();
    expect((await imagesPush(tools, config, request())).images[0]).toMatchObject({ outcome: "pushed" });
  });

  it("goes straight from a builder of its own, with SBOM and the short provenance", async () => {
    const docker = new DockerHere();
    docker.ours = true;
    const config = project({ registry: { server: "registry.example.net", repository: "acme/services" } });
    const { images } = await imagesPush(withLock(docker, config), config, request());
    expect(docker.changes).toHaveLength(1);
    expect(docker.changes[0]).toMatch(/--builder gpuctl .*--push --provenance=mode=min --sbom=true/);
    expect(images[0]).toMatchObject({
      pinned: `registry.example.net/acme/services@${registryDigest}`,
      attestations: { sbom: true, provenance: true, because: null },
    });
    docker.registry.clear();
    const bare = await imagesPush(withLock(docker, config), config, request({ sbom: false }));
    expect(bare.images[0]!.attestations).toMatchObject({ sbom: false, provenance: true });
  });

  it("asks a registry without TLS in the way that Docker itself does", async () => {
    const docker = new DockerHere();
    docker.insecure = true;
    const config = project();
    await imagesPush(withLock(docker, config), config, request());
    const asked = docker.executor.commands.map(({ argv }) => argv.slice(0, 4).join(" "));
    expect(asked).toContain("docker manifest inspect --insecure");
  });

  it.each([
    ["unauthorized: authentication required", PreflightRefused, "docker login 192.0.2.1:5000"],
    ["denied: requested access to the resource is denied", PreflightRefused, "docker login 192.0.2.1:5000"],
    ["dial tcp 192.0.2.1:5000: connect: connection refused", TargetUnreachable, "curl -sI https://192.0.2.1:5000/v2/"],
    ["http: server gave HTTP response to HTTPS client", PreflightRefused, /insecure-registries/],
    ["tls: x509: certificate signed by unknown authority", PreflightRefused, /certs\.d\/192\.0\.2\.1:5000\/ca\.crt/],
    ["write /var/lib/docker: no space left on device", Failed, "docker system df"],
  ])("that the registry refuses with %s says what to do, and pins nothing", async (stderr, kind, next) => {
    for (const refusing of ["imagetools", "push"]) {
      const docker = new DockerHere();
      const config = project();
      const tools = withLock(docker, config);
      docker.answer = (argv) => (argv.includes(refusing) ? { code: 1, stderr: `${stderr}\n` } : null);
      await expect(imagesPush(tools, config, request())).rejects.toMatchObject({
        constructor: kind,
        nextSteps: expect.arrayContaining([expect.stringMatching(next)]) as unknown,
      });
      expect(await tools.lock.readImages()).toEqual({});
    }
  });

  it("without a registry in gpuctl.yaml says how one is named, before anything is built", async () => {
    const docker = new DockerHere();
    for (const config of [project({}), { ...projectConfig(temporary()), target: "kubernetes" as const }]) {
      await expect(imagesPush(withLock(docker, config), config, request())).rejects.toMatchObject({
        constructor: ConfigInvalid,
        nextSteps: expect.arrayContaining([expect.stringContaining("gpuctl images push")]) as unknown,
      });
    }
    expect(docker.executor.commands).toEqual([]);
  });
});

describe("images cache", () => {
  const setup = { limit: "20GB", image: null };

  it("setup makes a builder with a limit, once", async () => {
    const docker = new DockerHere();
    const made = await imagesCacheSetup(docker.tools(), null, { limit: "20GB", image: "mirror.example.net/buildkit:1" });
    expect(made).toMatchObject({ outcome: "created", limitBytes: 20_000_000_000 });
    expect(docker.changes).toEqual([
      "docker buildx create --name gpuctl --driver docker-container --driver-opt image=mirror.example.net/buildkit:1 " +
        "--buildkitd-config /cache/buildkitd.toml --bootstrap",
    ]);
    expect(docker.configs).toEqual(['[worker.oci]\n  gc = true\n  maxUsedSpace = "20000000000"\n']);
    docker.ours = true;
    expect(await imagesCacheSetup(docker.tools(), null, setup)).toMatchObject({ outcome: "present" });
    expect(docker.changes).toHaveLength(1);
  });

  it("setup with another limit keeps the cache, and starts a builder that is stopped", async () => {
    const docker = new DockerHere();
    docker.ours = true;
    expect(await imagesCacheSetup(docker.tools(), null, { ...setup, limit: "5GiB" })).toMatchObject({ outcome: "changed" });
    expect(docker.changes[0]).toBe("docker buildx rm --keep-state gpuctl");
    docker.status = "stopped";
    await imagesCacheSetup(docker.tools(), null, setup);
    expect(docker.changes.at(-1)).toBe("docker buildx inspect --bootstrap gpuctl");
  });

  it("setup tells the builder of a registry without TLS that the engine knows", async () => {
    const docker = new DockerHere();
    docker.insecure = true;
    await imagesCacheSetup(docker.tools(), project(), setup);
    expect(docker.configs[0]).toContain('[registry."192.0.2.1:5000"]\n  http = true');
  });

  it("setup that fails leaves no builder that every build would choose", async () => {
    const docker = new DockerHere();
    docker.answer = (argv) => (argv.includes("create") ? { code: 1, stderr: "ERROR: booting buildkit: i/o timeout" } : null);
    await expect(imagesCacheSetup(docker.tools(), null, setup)).rejects.toMatchObject({
      nextSteps: [expect.stringContaining("--image")] as unknown,
    });
    expect(docker.changes.at(-1)).toBe("docker buildx rm --keep-state gpuctl");
  });

  it("stats says what it can about a builder that is stopped", async () => {
    const docker = new DockerHere();
    docker.ours = true;
    docker.status = "stopped";
    expect(await imagesCacheStats(docker.tools())).toEqual({
      builder: { name: "gpuctl", driver: "docker-container", status: "stopped", limitBytes: 20_000_000_000 },
      use: null,
      lastBuild: null,
    });
  });

  const use = { stdout: `${"a".repeat(25)}  true  5MB\nReclaimable:\t5MB\nTotal:\t\t6MB\n` };

  it("clear frees nothing until it is told how much", async () => {
    const docker = new DockerHere();
    docker.answer = (argv) => {
      if (argv.includes("du")) return use;
      return argv.includes("prune") ? { stdout: "Total:\t5MB\n" } : null;
    };
    const before = { entries: 1, bytes: 6_000_000, reclaimableBytes: 5_000_000 };
    const shown = await imagesCacheClear(docker.tools(), { confirm: false, limit: null });
    expect(shown).toEqual({ builder: "default", shared: true, before, freedBytes: null });
    expect(docker.changes).toEqual([]);
    expect((await imagesCacheClear(docker.tools(), { confirm: true, limit: null })).freedBytes).toBe(5_000_000);
    await imagesCacheClear(docker.tools(), { confirm: false, limit: "2MB" });
    expect(docker.changes).toEqual([
      "docker buildx prune --builder default --force --all",
      "docker buildx prune --builder default --force --max-used-space 2000000",
    ]);
    for (const limit of ["much", "0B", "-1GB"])
      await expect(imagesCacheClear(docker.tools(), { confirm: false, limit })).rejects.toBeInstanceOf(UsageError);
  });
});
