/** Images that every bed's registry has: made once, for what they are made of, and kept in the cache. */
import { createHash } from "node:crypto";
import { copyFileSync, cpSync, existsSync, globSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { repository } from "../sandbox.js";
import { Bed } from "./bed.js";
import type { BedHost } from "./host.js";
import { prepared, type Prepared } from "./prepared.js";
import { must } from "./shell.js";

const services = join(repository, "compose/services");
const builder = "builder";
const buildMs = 1_200_000;

/** Debian with Python, and nothing else. Name it `<address of the registry>/<this>`. */
export async function baseImage(): Promise<string> {
  const parts = await prepared();
  const name = "bed/base:trixie";
  if (!isKept(parts, name)) {
    await onBuilder(async (bed, host) => {
      const image = `${bed.registry.address}/${name}`;
      await host.must(["docker", "import", "-", image], { input: { file: parts.base }, timeoutMs: buildMs });
      await host.must(["docker", "push", "--quiet", image], { timeoutMs: buildMs });
    });
  }
  return name;
}

/** Caddy, as a registry would give it: Debian with the program of the bed's hosts. */
export async function caddyImage(): Promise<string> {
  const [base, parts] = [await baseImage(), await prepared()];
  const name = `bed/caddy:${basename(dirname(parts.host))}`;
  if (!isKept(parts, name)) {
    await onBuilder(async (bed, host) => {
      const from = `${bed.registry.address}/${base}`;
      await host.must(["docker", "pull", "--quiet", from], { timeoutMs: buildMs });
      const caddy = readFileSync(join(host.root, "usr/bin/caddy"));
      await buildAndPush(bed, host, name, { Dockerfile: `FROM ${from}\nCOPY caddy /usr/bin/caddy\n`, caddy });
    });
  }
  return name;
}

/**
 * The official Redis image, as far as a Compose file can tell: its working directory, its user, and an entrypoint that gives up root by
 * itself, for which a container without capabilities has no right. The server is Debian's, which unlike the official one refuses
 * everybody but its own machine unless it is told otherwise.
 */
const redisRecipe = (base: string): string => `FROM ${base}
RUN apt-get -qq update && apt-get -qq install --no-install-recommends redis-server && rm -rf /var/lib/apt/lists/*
COPY docker-entrypoint.sh /usr/local/bin/
RUN mkdir /data && chown redis: /data
WORKDIR /data
ENTRYPOINT ["docker-entrypoint.sh"]
EXPOSE 6379
CMD ["redis-server"]
`;
const redisEntrypoint = `#!/bin/sh
set -e
case $1 in -*) set -- redis-server "$@" ;; esac
if [ "$(id -u)" = 0 ]; then
  chown redis: .
  exec setpriv --reuid redis --regid redis --clear-groups "$0" "$@"
fi
exec "$@"
`;

/** Redis, as a registry would give it. */
export async function redisImage(): Promise<string> {
  const [base, parts] = [await baseImage(), await prepared()];
  const made = createHash("sha256").update(redisRecipe(base)).update(redisEntrypoint).digest("hex").slice(0, 8);
  const name = `bed/redis:${basename(dirname(parts.host))}-${made}`;
  if (!isKept(parts, name)) {
    await onBuilder(async (bed, host) => {
      const from = `${bed.registry.address}/${base}`;
      await host.must(["docker", "pull", "--quiet", from], { timeoutMs: buildMs });
      const files = { Dockerfile: redisRecipe(from), "docker-entrypoint.sh": redisEntrypoint };
      await buildAndPush(bed, host, name, files, ["--build-arg", `http_proxy=${bed.proxy.url}`]);
    });
  }
  return name;
}

/** Builds an image of executable files and a Dockerfile, and leaves it in the registry. */
async function buildAndPush(
  bed: Bed,
  host: BedHost,
  name: string,
  files: Readonly<Record<string, string | Buffer>>,
  more: readonly string[] = [],
): Promise<void> {
  const folder = join(bed.folder, "image");
  mkdirSync(folder);
  for (const [file, content] of Object.entries(files)) writeFileSync(join(folder, file), content, { mode: 0o755 });
  const context = join(bed.folder, "image.tar");
  await must("tar", ["-C", folder, "-cf", context, "."]);
  const image = `${bed.registry.address}/${name}`;
  await host.must(["docker", "build", "--quiet", "--provenance", "false", "--tag", image, ...more, "-"], {
    input: { file: context },
    timeoutMs: buildMs,
  });
  await host.must(["docker", "push", "--quiet", image], { timeoutMs: buildMs });
}

/** The services' own image for CPUs, built from this checkout by its Dockerfile on top of the base image. */
export async function serviceImage(): Promise<string> {
  const [base, parts] = [await baseImage(), await prepared()];
  const name = `gpuctl-services:${contextHash(parts)}`;
  if (!isKept(parts, name)) {
    await onBuilder(async (bed, host) => {
      await host.must(["docker", "pull", "--quiet", `${bed.registry.address}/${base}`], { timeoutMs: buildMs });
      await buildServices(bed, host, `${bed.registry.address}/${base}`, `${bed.registry.address}/${name}`);
      await host.must(["docker", "push", "--quiet", `${bed.registry.address}/${name}`], { timeoutMs: buildMs });
    });
  }
  return name;
}

/**
 * The services' image with the tests' engine for GPUs in place of the real one: it says `cuda`, computes on the CPU, and holds memory on
 * a GPU of the bed. Variables of its containers: `FAULTY_CUDA` (compose/services/tests/faults/faulty.py) and `BED_HOLDS_MIB`.
 */
export async function stubGpuImage(): Promise<string> {
  const [real, parts] = [await serviceImage(), await prepared()];
  const name = `${real.replace(":", ":stub-")}-${hashOf(services, ["tests/faults/*.py"]).slice(0, 8)}`;
  if (!isKept(parts, name)) {
    await onBuilder(async (bed, host) => {
      await host.must(["docker", "pull", "--quiet", `${bed.registry.address}/${real}`], { timeoutMs: buildMs });
      const image = `${bed.registry.address}/${name}`;
      const context = await stubGpuContext(bed.folder, `${bed.registry.address}/${real}`);
      await host.must(["docker", "build", "--provenance", "false", "--tag", image, "-"], {
        input: { file: context },
        timeoutMs: buildMs,
      });
      await host.must(["docker", "push", "--quiet", image], { timeoutMs: buildMs });
    });
  }
  return name;
}

async function stubGpuContext(folder: string, from: string): Promise<string> {
  const root = join(folder, "stub");
  const make = `import shutil, sys
from pathlib import Path
from tests.faults.package import FAULTS, faulty_package
engines = faulty_package(Path(sys.argv[1]), gpu=True) / "gpuctl_serving/engines"
(engines / "torch_cuda.py").rename(engines / "torch_cuda_stub.py")
shutil.copy(FAULTS / "torch_cuda_on_bed.py", engines / "torch_cuda.py")`;
  const env = { PATH: process.env["PATH"] ?? "", PYTHONPATH: services, PYTHONDONTWRITEBYTECODE: "1" };
  await must("python3", ["-c", make, root], { env });
  const lib = "/opt/gpuctl/lib/gpuctl_serving";
  // The bytecode that is there is believed without a look at its source, so all of it has to go.
  const lines = [`FROM ${from}`, "USER 0", `RUN rm -rf ${lib}`, `COPY gpuctl_serving ${lib}`, "USER 10001:10001"];
  writeFileSync(join(root, "Dockerfile"), `${lines.join("\n")}\n`);
  const context = join(folder, "stub.tar");
  await must("tar", ["-C", root, "-cf", context, "."]);
  return context;
}

/**
 * `docker build` as a person behind a mirror runs it: base image and proxy as arguments, index and certificate as secrets.
 * @param secrets  by default this machine's own way to its packages
 */
export async function buildServices(
  bed: Bed,
  host: BedHost,
  base: string,
  image: string,
  more: readonly string[] = [],
  secrets = secretArguments(host),
): Promise<string> {
  // The name says where the base came from, which must not be part of what is built.
  await host.must(["docker", "tag", base, "bed/base:trixie"]);
  const context = join(bed.folder, "context.tar");
  const parts = ["Dockerfile", ".dockerignore", "locks", "src"];
  await must("tar", ["-C", services, "--exclude=__pycache__", "-cf", context, ...parts]);
  const args = { BASE_IMAGE: "bed/base:trixie", HTTPS_PROXY: bed.proxy.url, HTTP_PROXY: bed.proxy.url, VERSION: "0.0.0-test" };
  return host.must(
    [
      ...["docker", "build", "--progress", "plain", "--provenance", "false", "--tag", image],
      ...Object.entries(args).flatMap(([arg, value]) => ["--build-arg", `${arg}=${value}`]),
      ...secrets,
      ...more,
      "-",
    ],
    { input: { file: context }, timeoutMs: buildMs },
  );
}

/** Fetches what the lock of the CPU image names, for the Python of that image, into a folder; again it comes out of the builder's cache. */
export async function fetchWheels(bed: Bed, host: BedHost, folder: string): Promise<void> {
  const recipe = `FROM bed/base:trixie AS fetched
COPY runtime.txt /
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \\
    --mount=type=secret,id=pip_conf,target=/etc/pip.conf --mount=type=secret,id=ca,target=/run/secrets/ca.pem \\
    set -eu; if [ -s /run/secrets/ca.pem ]; then export PIP_CERT=/run/secrets/ca.pem; fi; python3 -m venv /tmp/pip; \\
    /tmp/pip/bin/pip download --no-deps --only-binary :all: --require-hashes --requirement /runtime.txt --dest /wheels
FROM scratch
COPY --from=fetched /wheels /
`;
  const context = join(host.root, "srv/fetch");
  mkdirSync(context, { recursive: true });
  writeFileSync(join(context, "Dockerfile"), recipe);
  copyFileSync(join(services, "locks/runtime.txt"), join(context, "runtime.txt"));
  const proxies = ["HTTPS_PROXY", "HTTP_PROXY"].flatMap((name) => ["--build-arg", `${name}=${bed.proxy.url}`]);
  const to = ["--output", "type=local,dest=/srv/wheels"];
  await host.must(["docker", "build", ...to, ...proxies, ...secretArguments(host), "/srv/fetch"], { timeoutMs: buildMs });
  cpSync(join(host.root, "srv/wheels"), folder, { recursive: true });
}

/** This machine's own way to its package index, given to the build without a trace in the image. */
function secretArguments(host: BedHost): string[] {
  const secrets: string[] = [];
  const index = process.env["PIP_INDEX_URL"];
  if (index) {
    writeFileSync(join(host.root, "run/pip.conf"), `[global]\nindex-url = ${index}\n`);
    secrets.push("--secret", "id=pip_conf,src=/run/pip.conf");
  }
  const certificates = process.env["PIP_CERT"] || "/etc/ssl/certs/ca-certificates.crt";
  if (existsSync(certificates)) {
    copyFileSync(certificates, join(host.root, "run/ca.pem"));
    secrets.push("--secret", "id=ca,src=/run/ca.pem");
  }
  return secrets;
}

async function onBuilder(work: (bed: Bed, host: BedHost) => Promise<void>): Promise<void> {
  const bed = await Bed.start([{ name: builder }], { keepImages: true });
  try {
    await work(bed, bed.host(builder));
  } finally {
    await bed.stop();
  }
}

/** Whether the kept registry has the tag. */
function isKept({ registry }: Prepared, image: string): boolean {
  const [name = "", tag = ""] = image.split(":");
  return existsSync(join(registry, "docker/registry/v2/repositories", name, "_manifests/tags", tag, "current/link"));
}

/** Everything that the image is made of. */
function contextHash({ base }: Prepared): string {
  const files = ["Dockerfile", ".dockerignore", "locks/{runtime,cuda}.txt", "src/**/*.py"];
  return hashOf(services, files, basename(dirname(base))).slice(0, 16);
}

function hashOf(folder: string, patterns: readonly string[], more = ""): string {
  const hash = createHash("sha256").update(more);
  for (const file of globSync(patterns, { cwd: folder }).sort())
    hash.update(`${file}\0`).update(readFileSync(join(folder, file)));
  return hash.digest("hex");
}
