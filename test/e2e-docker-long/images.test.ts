/**
 * `gpuctl images` with a real Docker and a real registry, on the builder that Docker itself brings. A builder in a container takes
 * BuildKit's own image, which the bed has from nowhere: of that only the refusal is seen here, the rest in test/unit/images.
 */
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { BuildResult, BuiltImage } from "../../cli/src/app/images-build.js";
import type { CacheClear, CacheStats } from "../../cli/src/app/images-cache.js";
import type { PushedImage, PushResult } from "../../cli/src/app/images-push.js";
import { Bed } from "../support/bed/bed.js";
import { dockerClient } from "../support/bed/docker-client.js";
import type { BedHost } from "../support/bed/host.js";
import { baseImage, caddyImage, serviceImage } from "../support/bed/images.js";
import { run, type Ran } from "../support/bed/shell.js";
import { pinned, Stack } from "../support/bed/stack.js";
import { repository, type JsonDocument } from "../support/sandbox.js";

const minutes = 60_000;
// A build installs packages, on a machine that may be busy.
vi.setConfig({ testTimeout: 20 * minutes });
let bed: Bed;
let builder: BedHost;
let folder: string;
let base: string;
const clients = new Map<string, Readonly<Record<string, string>>>();

beforeAll(async () => {
  const image = await baseImage();
  bed = await Bed.start([{ name: "builder" }, { name: "other" }, { name: "small", dockerMiB: 700 }]);
  folder = join(bed.folder, "images");
  builder = bed.host("builder");
  base = `${bed.registry.address}/${image}`;
  for (const name of ["builder", "small"]) {
    const host = bed.host(name);
    await host.must(["docker", "pull", "--quiet", base], { timeoutMs: 5 * minutes });
    await host.must(["docker", "tag", base, image]);
    clients.set(name, (await dockerClient(join(folder, name), host)).env);
  }
  install();
  writeFileSync(project(), projectFile());
}, 30 * minutes);

afterAll(async () => {
  await bed.stop();
});

const project = (): string => join(folder, "gpuctl.yaml");
const lock = (): string => readFileSync(join(folder, "gpuctl.lock.json"), "utf8");

const projectFile = (): string => `version: 1
project: shop
services:
  index: { port: 8003 }
environments:
  prod:
    target: compose
    nodes: { box: { host: ${builder.address} } }
    registry: { server: "${bed.registry.address}", repository: acme/services }
`;

const installed = (): string => join(folder, "gpuctl");

/** gpuctl as it is packed, and not the checkout: there files may change between two builds. */
function install(): void {
  mkdirSync(installed());
  symlinkSync(join(repository, "node_modules"), join(installed(), "node_modules"));
  const packed = ["package.json", "oclif.manifest.json", "cli/bin", "dist"];
  const context = ["Dockerfile", ".dockerignore", "locks", "src"].map((name) => `compose/services/${name}`);
  for (const path of [...packed, ...context]) cpSync(join(repository, path), join(installed(), path), { recursive: true });
}

/** The built command line as somebody runs it whose Docker is that of a host of the bed. */
function gpuctl(args: readonly string[], host = "builder"): Promise<Ran> {
  const bin = join(installed(), "cli/bin/run.js");
  const env = clients.get(host) ?? {};
  return run(process.execPath, [bin, ...args, "--config", project()], { env, timeoutMs: 20 * minutes });
}

async function result<T>(args: readonly string[]): Promise<T> {
  const { code, stdout, stderr } = await gpuctl([...args, "--json"]);
  expect(code, `${stdout}\n${stderr}`).toBe(0);
  const document = JSON.parse(stdout) as JsonDocument;
  expect(document).toMatchObject({ schemaVersion: 1, ok: true });
  return document.result as T;
}

async function refusal(args: readonly string[], host = "builder"): Promise<NonNullable<JsonDocument["error"]>> {
  const { code, stdout, stderr } = await gpuctl([...args, "--json"], host);
  const { ok, error } = JSON.parse(stdout) as JsonDocument;
  expect([ok, error?.exitCode], `${stdout}\n${stderr}`).toEqual([false, code]);
  return error!;
}

/** As a person behind a mirror builds: the base image and the way out as arguments, index and certificate as secrets. */
function behindMirror(): string[] {
  const args = { BASE_IMAGE: "bed/base:trixie", HTTPS_PROXY: bed.proxy.url, HTTP_PROXY: bed.proxy.url };
  const given = Object.entries(args).flatMap(([name, value]) => ["--build-arg", `${name}=${value}`]);
  const index = process.env["PIP_INDEX_URL"];
  if (index) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "pip.conf"), `[global]\nindex-url = ${index}\n`);
    given.push("--secret", `id=pip_conf,src=${join(folder, "pip.conf")}`);
  }
  const certificates = process.env["PIP_CERT"] || "/etc/ssl/certs/ca-certificates.crt";
  return existsSync(certificates) ? [...given, "--secret", `id=ca,src=${certificates}`] : given;
}

describe("images build", () => {
  let built: BuiltImage;

  test("builds the services' image, says each step on stderr, and what it is in its labels", async () => {
    const { code, stdout, stderr } = await gpuctl(["images", "build", "--json", ...behindMirror()]);
    expect(code, stderr).toBe(0);
    const { images, builder: name } = (JSON.parse(stdout) as { result: BuildResult }).result;
    expect([name, images.length]).toEqual(["default", 1]);
    built = images[0]!;
    expect(built).toMatchObject({
      device: "cpu",
      outcome: "built",
      attestations: { sbom: false, provenance: false, because: expect.stringContaining("images cache setup") as string },
    });
    expect(built.steps).toEqual({ total: 8, cached: 0 });
    expect(built.image).toBe(`gpuctl-services:cpu-${built.contents.slice(0, 16)}`);
    expect(stderr).toContain("[packages 2/3] COPY locks/runtime.txt locks/cuda.txt /locks/");
    expect(stderr).toContain("No SBOM and no provenance");
    const format = ["docker", "image", "inspect", "--format", "{{json .Config.Labels}}", built.image];
    const labels = JSON.parse(await builder.must(format)) as Record<string, string>;
    const { version } = JSON.parse(readFileSync(join(repository, "package.json"), "utf8")) as { version: string };
    const packed = JSON.parse(readFileSync(join(installed(), "dist/revision.json"), "utf8")) as { revision: string };
    expect(packed.revision).toMatch(/^[0-9a-f]{40,64}(-dirty)?$/);
    expect(labels).toMatchObject({
      "org.opencontainers.image.version": version,
      "gpuctl.device": "cpu",
      "gpuctl.contents": built.contents,
      "org.opencontainers.image.revision": packed.revision,
    });
    const history = await builder.must(["docker", "history", "--no-trunc", "--format", "{{.CreatedBy}}", built.image]);
    expect(history).not.toContain(bed.proxy.url);
  });

  test("again it builds nothing, also when the same base image comes from a mirror", async () => {
    for (const from of ["bed/base:trixie", base]) {
      const { images } = await result<BuildResult>(["images", "build", "--build-arg", `BASE_IMAGE=${from}`]);
      expect(images[0]).toMatchObject({ outcome: "present", image: built.image, id: built.id, steps: null });
    }
    const { stderr } = await gpuctl(["images", "build", "--build-arg", "BASE_IMAGE=bed/base:trixie"]);
    expect(stderr).toContain(`${built.image} is there already`);
  });

  test("an image that was removed comes back out of the cache, and stats tells the hits", async () => {
    await builder.must(["docker", "image", "rm", built.image]);
    const { images } = await result<BuildResult>(["images", "build", ...behindMirror()]);
    expect(images[0]).toMatchObject({ outcome: "built", image: built.image, steps: { total: 8, cached: 8 } });
    const stats = await result<CacheStats>(["images", "cache", "stats"]);
    expect(stats.lastBuild).toMatchObject({ image: built.image, builder: "default", total: 8, cached: 8 });
    expect(stats.builder).toMatchObject({ name: "default", driver: "docker", status: "running" });
    expect(stats.use?.entries).toBeGreaterThan(5);
    expect(stats.use?.bytes).toBeGreaterThan(100e6);
    expect((await gpuctl(["images", "cache", "stats"])).stdout).toMatch(/8 of 8 steps from the cache/);
  });

  test("a base image that cannot be had is said with what to give instead", async () => {
    const error = await refusal(["images", "build", "--build-arg", "BASE_IMAGE=registry.invalid/python:3.13-slim-trixie"]);
    expect(error.exitCode).toBe(1);
    expect(error.nextSteps?.[0]).toContain("--build-arg BASE_IMAGE=");
  });

  test("a full disk is said as one", async () => {
    await bed.host("small").fillDisk(60);
    const error = await refusal(["images", "build", ...behindMirror()], "small");
    expect(error.because).toMatch(/no space left on device/i);
    expect(error.nextSteps).toContain("docker system df");
  });

  test("an engine that does not run is said as one", async () => {
    await builder.stopDocker();
    const error = await refusal(["images", "build"]);
    await builder.startDocker();
    expect(error).toMatchObject({ exitCode: 4, message: "Docker on this machine does not answer" });
    expect(error.nextSteps?.[0]).toBe("sudo systemctl start docker");
  });
});

describe("images push", () => {
  let pushed: PushedImage;

  test("puts the image into the registry of the environment and its digest into the lock", async () => {
    const { images } = await result<PushResult>(["images", "push", ...behindMirror()]);
    pushed = images[0]!;
    expect(pushed.outcome).toBe("pushed");
    expect(pushed.ref).toBe(`${bed.registry.address}/acme/services:cpu-${pushed.contents.slice(0, 16)}`);
    const { ref, digest, contents } = pushed;
    expect(JSON.parse(lock())).toEqual({ schemaVersion: 1, models: {}, images: { "services-cpu": { ref, digest, contents } } });
  });

  test("another machine pulls it by that digest, and it runs", async () => {
    const other = bed.host("other");
    await other.must(["docker", "pull", "--quiet", pushed.pinned], { timeoutMs: 5 * minutes });
    const program = ["python", "-c", "import gpuctl_serving, onnxruntime, os; print(os.getuid())"];
    expect(await other.must(["docker", "run", "--rm", pushed.pinned, ...program])).toBe("10001\n");
  });

  test("again it sends nothing, whether the lock is there or not", async () => {
    const before = lock();
    const again = async (): Promise<PushedImage> => {
      const { images } = await result<PushResult>(["images", "push", "--build-arg", "BASE_IMAGE=bed/base:trixie"]);
      return images[0]!;
    };
    expect(await again()).toMatchObject({ outcome: "present", digest: pushed.digest });
    rmSync(join(folder, "gpuctl.lock.json"));
    expect(await again()).toMatchObject({ outcome: "present", digest: pushed.digest });
    expect(lock()).toBe(before);
  });

  test("a registry that is down is said as one, and the lock stays as it is", async () => {
    const before = lock();
    await bed.registry.stop();
    const error = await refusal(["images", "push", "--build-arg", "BASE_IMAGE=bed/base:trixie"]);
    await bed.registry.start();
    expect(error.exitCode).toBe(4);
    expect(error.nextSteps).toEqual([`curl -sI https://${bed.registry.address}/v2/`, "gpuctl images push"]);
    expect(lock()).toBe(before);
  });
});

describe("a registry that asks who you are", () => {
  /** The user `ci` with the password `wombat`. */
  const htpasswd = "ci:$2b$05$4V.TsqDsVOHXdkVreYsG2umu9u9YGuFAKY5iKDP1DNf0rtogs/si.\n";
  const push = ["images", "push", "--build-arg", "BASE_IMAGE=bed/base:trixie"];

  let images: { services: string; proxy: string };

  beforeAll(async () => {
    const other = bed.host("other");
    images = { services: await pinned(bed, other, await serviceImage()), proxy: await pinned(bed, other, await caddyImage()) };
    await bed.registry.stop();
    await bed.registry.start({ htpasswd });
  }, 30 * minutes);

  afterAll(async () => {
    await bed.registry.stop();
    await bed.registry.start();
  });

  test("is told by docker login, and by nothing else", async () => {
    const error = await refusal(push);
    expect(error).toMatchObject({ exitCode: 5, nextSteps: [`docker login ${bed.registry.address}`, "gpuctl images push"] });
    const env = clients.get("builder")!;
    const login = ["login", "--username", "ci", "--password-stdin", bed.registry.address];
    const { code, stderr } = await run("docker", login, { env, input: "wombat\n" });
    expect(code, stderr).toBe(0);
    expect((await result<PushResult>(push)).images[0]).toMatchObject({ outcome: "present" });
  });

  test("gives a host what it pulls with the account of gpuctl.yaml, and nothing of that stays there", async () => {
    const services = ["embedder: { model: all-MiniLM-L6-v2, port: 18601, device: { prefer: cpu } }"];
    const stack = await Stack.create(bed, { hosts: ["other"], services, images });
    const asNobody = await stack.run(["deploy", "-e", "prod"]);
    expect(asNobody.code, asNobody.stderr).toBe(5);
    expect(asNobody.stderr).toContain("registry: { username: NAME, password: { env: VARIABLE } }");
    stack.write({ extra: [`registry: { server: "${bed.registry.address}", username: ci, password: { env: PULLING } }`] });
    const wrong = await stack.run(["deploy", "-e", "prod"], { PULLING: "koala-42" });
    expect(wrong.code, wrong.stderr).toBe(5);
    expect(wrong.stderr + wrong.stdout).not.toContain("koala-42");
    const deployed = await stack.run(["deploy", "-e", "prod"], { PULLING: "wombat" });
    expect(deployed.code, deployed.stderr).toBe(0);
    const left = await bed.host("other").exec(["sh", "-c", "ls -d /dev/shm/gpuctl-login* /root/.docker/config.json 2>/dev/null"]);
    expect(left.stdout).toBe("");
    await stack.close();
  });
});

describe("images cache", () => {
  test("setup without BuildKit's image says how another is named, and leaves no builder behind", async () => {
    const error = await refusal(["images", "cache", "setup", "--image", `${bed.registry.address}/moby/buildkit:missing`]);
    expect(error.nextSteps?.[0]).toContain("--image");
    expect((await result<CacheStats>(["images", "cache", "stats"])).builder.name).toBe("default");
  });

  test("clear frees nothing until it is confirmed, and then all of it", async () => {
    const shown = await gpuctl(["images", "cache", "clear"]);
    expect(shown.stdout).toMatch(/^Would free \d.*not of gpuctl alone.*Nothing was freed yet/s);
    const held = (await result<CacheStats>(["images", "cache", "stats"])).use!;
    expect(held.bytes).toBeGreaterThan(100e6);
    const cleared = await result<CacheClear>(["images", "cache", "clear", "--confirm"]);
    expect(cleared).toMatchObject({ builder: "default", shared: true, before: held });
    expect(cleared.freedBytes).toBeGreaterThan(100e6);
    expect((await result<CacheStats>(["images", "cache", "stats"])).use).toEqual({ entries: 0, bytes: 0, reclaimableBytes: 0 });
  });
});
