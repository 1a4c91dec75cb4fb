/** Images that every bed's registry has: made once, for what they are made of, and kept in the cache. */
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, globSync, readFileSync, writeFileSync } from "node:fs";
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

/** `docker build` as a person behind a mirror runs it: base image and proxy as arguments, index and certificate as secrets. */
export async function buildServices(
  bed: Bed,
  host: BedHost,
  base: string,
  image: string,
  more: readonly string[] = [],
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
      ...secretArguments(host),
      ...more,
      "-",
    ],
    { input: { file: context }, timeoutMs: buildMs },
  );
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
  const hash = createHash("sha256").update(basename(dirname(base)));
  const files = globSync(["Dockerfile", ".dockerignore", "locks/{runtime,cuda}.txt", "src/**/*.py"], { cwd: services });
  for (const file of files.sort()) hash.update(`${file}\0`).update(readFileSync(join(services, file)));
  return hash.digest("hex").slice(0, 16);
}
