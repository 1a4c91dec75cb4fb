/** What Docker 28.5 with buildx 0.29 and BuildKit 0.29 printed, shortened, with other names of hosts. */
import { describe, expect, it } from "vitest";
import { BuildLog } from "../../../cli/src/domain/images/build-log.js";
import { builderConfig, isContainerdStore, knowsInsecure, parseBuilder } from "../../../cli/src/domain/images/builder.js";
import { freedBytes, parseCacheUse, parseShownSize } from "../../../cli/src/domain/images/cache.js";
import { digestIn, pushedDigest } from "../../../cli/src/domain/images/docker-commands.js";
import { isInsecure } from "../../../cli/src/domain/images/registry.js";

const digest = `sha256:${"db8f2c09".repeat(8)}`;

const pushed = `#0 building with "gpuctl" instance using docker-container driver

#1 [internal] load build definition from Dockerfile
#1 transferring dockerfile: 4.95kB done
#1 DONE 0.0s

#4 [code 1/3] FROM registry.example.net/bed/base:trixie@sha256:9e323fb8
#4 DONE 1.8s

#6 [code 2/3] COPY src/gpuctl_serving /code/lib/gpuctl_serving
#6 ...

#7 [packages 2/3] COPY locks/runtime.txt locks/cuda.txt /locks/
#7 CACHED

#6 [code 2/3] COPY src/gpuctl_serving /code/lib/gpuctl_serving
#6 DONE 0.2s

#8 [packages 3/3] RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked     set -eu;     python3 -m venv /tmp/pip
#8 1.305 Collecting numpy==2.5.5 (from -r /locks/runtime.txt (line 421))
#8 1.402   Downloading anyio-4.16.0-py3-none-any.whl (134 kB)
#8 1.502   Downloading numpy-2.5.5-cp313-cp313-manylinux_2_28_x86_64.whl (15.7 MB)
#8 5.695 Successfully installed numpy-2.5.5
#8 DONE 9.2s

#9 [stage-2 5/5] WORKDIR /var/lib/gpuctl
#9 CACHED

#14 exporting to image
#14 exporting layers done
#14 pushing layers
#14 pushing manifest for registry.example.net/gpuctl-services:cpu-x@${digest}
#14 pushing manifest for registry.example.net/gpuctl-services:cpu-x@${digest} 0.0s done
#14 DONE 0.5s
`;

const read = (text: string) => {
  const log = new BuildLog();
  const events = text.split("\n").flatMap((line) => log.line(line) ?? []);
  return { log, events };
};

describe("the progress of a build", () => {
  it("gives its steps, those from the cache, and the digest of what was pushed", () => {
    const { log, events } = read(pushed);
    expect(log.steps).toEqual({ total: 4, cached: 2 });
    expect(log.pushedDigest).toBe(digest);
    expect(log.failure).toBeNull();
    expect(events).toEqual([
      { kind: "step", text: "[code 1/3] FROM registry.example.net/bed/base:trixie@sha256:9e323fb8", cached: false },
      { kind: "step", text: "[packages 2/3] COPY locks/runtime.txt locks/cuda.txt /locks/", cached: true },
      { kind: "step", text: "[code 2/3] COPY src/gpuctl_serving /code/lib/gpuctl_serving", cached: false },
      { kind: "work", text: "Downloading numpy-2.5.5-cp313-cp313-manylinux_2_28_x86_64.whl (15.7 MB)" },
      {
        kind: "step",
        text: "[packages 3/3] RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked set -eu; pyt…",
        cached: false,
      },
      { kind: "step", text: "[stage-2 5/5] WORKDIR /var/lib/gpuctl", cached: true },
      { kind: "work", text: "pushing layers" },
    ]);
  });

  it("says why a step failed in the step's own words, without the command and without each attempt", () => {
    const { log } = read(`#8 [packages 3/3] RUN set -eu
#8 1.1 WARNING: Retrying (Retry(total=0)) after connection broken
#8 1.2 ERROR: Could not find a version that satisfies the requirement anyio==4.16.0
#8 1.3 ERROR: No matching distribution found for anyio==4.16.0
#8 ERROR: process "/bin/sh -c set -eu" did not complete successfully: exit code: 1
------
ERROR: failed to build: failed to solve: process "/bin/sh -c set -eu" did not complete successfully: exit code: 1`);
    expect(log.failure).toBe(
      "ERROR: Could not find a version that satisfies the requirement anyio==4.16.0; ERROR: No matching distribution found for anyio==4.16.0",
    );
    expect(log.pushedDigest).toBeNull();
  });

  it("says BuildKit's own error where no step spoke, without most of a long command", () => {
    const { log } = read(`#2 ERROR: no\nERROR: failed to build: ${"command ".repeat(200)}: exit code: 7`);
    expect(log.failure).toMatch(/^failed to build: command .* … .*: exit code: 7$/);
    expect(log.failure?.length).toBeLessThan(310);
    expect(read("").log.failure).toBeNull();
  });
});

const docker = `Name:   default
Driver: docker

Nodes:
Name:             default
Endpoint:         default
Status:           running
GC Policy rule#0:
 All:            false
 Max Used Space: 3.346GiB
GC Policy rule#1:
 All:            true
 Reserved Space: 24.21GiB
 Max Used Space: 188.1GiB
`;

const container = (status: string) => `Name:          gpuctl
Driver:        docker-container
Last Activity: 2026-11-21 13:56:39 +0000 UTC

Nodes:
Name:                  gpuctl0
Endpoint:              unix:///var/run/docker.sock
Driver Options:        image="registry.example.net/moby/buildkit:buildx-stable-1"
Status:                ${status}
GC Policy rule#0:
 All:            true
 Max Used Space: 2.794GiB
File#buildkitd.toml:
 > 
 >   [registry."registry.example.net:5000"]
 >     http = true
 >     insecure = true
 > 
 >   [worker.oci]
 >     gc = true
 >     maxUsedSpace = "3000000000"
 > 
`;

describe("a builder, by what buildx prints", () => {
  it("is Docker's own, which attests where the engine keeps images in containerd", () => {
    const own = { name: "default", driver: "docker", status: "running", image: null };
    expect(parseBuilder(docker, false)).toEqual({ ...own, attests: false, limitBytes: parseShownSize("188.1GiB") });
    expect(parseBuilder(docker, true)).toMatchObject({ ...own, attests: true });
    expect(isContainerdStore('[["driver-type","io.containerd.snapshotter.v1"]]')).toBe(true);
    expect(isContainerdStore('[["Backing Filesystem","extfs"],["Supports d_type","true"]]')).toBe(false);
  });

  it.each(["running", "stopped"])("is ours, with the exact limit of its settings, while it is %s", (status) => {
    expect(parseBuilder(container(status), false)).toEqual({
      name: "gpuctl",
      driver: "docker-container",
      attests: true,
      status,
      limitBytes: 3_000_000_000,
      image: "registry.example.net/moby/buildkit:buildx-stable-1",
    });
    expect(knowsInsecure(container(status), "registry.example.net:5000")).toBe(true);
    expect(knowsInsecure(container(status), "registry.example.net")).toBe(false);
  });

  it("is an error when buildx says one and ends with 0 all the same", () => {
    const output =
      "Name:          default\nDriver:        \nError:         Cannot connect to the Docker daemon at unix:///nope.\n";
    expect(parseBuilder(output, false)).toEqual({ error: "Cannot connect to the Docker daemon at unix:///nope." });
    expect(parseBuilder("", false)).toBeNull();
  });

  it("reads from its settings what was written into them", () => {
    const text = builderConfig(20_000_000_000, "registry.example.net:5000");
    const shown = `Name: gpuctl\nDriver: docker-container\n${text.replace(/^/gm, " > ")}`;
    expect(parseBuilder(shown, false)).toMatchObject({ limitBytes: 20_000_000_000 });
    expect(knowsInsecure(shown, "registry.example.net:5000")).toBe(true);
    expect(builderConfig(1, null)).not.toContain("registry");
  });
});

describe("the build cache, by what buildx prints", () => {
  it("has entries and a size", () => {
    const output = `ID                                      RECLAIMABLE     SIZE            LAST ACCESSED
f28gcxbbfxdagaq8hvbf235fb*              true            298.7MB         25 seconds ago
bppeh3554a4tpzly2b1dc8d3t               true            288.4MB         25 seconds ago
a9ga1gwydl5tew5ps20070z4e               false           1.216MB
Shared:\t\t291.6MB
Private:\t304.6MB
Reclaimable:\t595MB
Total:\t\t596.2MB
`;
    expect(parseCacheUse(output)).toEqual({ entries: 3, bytes: 596_200_000, reclaimableBytes: 595_000_000 });
    expect(parseCacheUse("Reclaimable:\t0B\nTotal:\t\t0B\n")).toEqual({ entries: 0, bytes: 0, reclaimableBytes: 0 });
    expect(parseCacheUse("something else")).toBeNull();
  });

  it("says what was freed", () => {
    expect(freedBytes("yj7r2k279qt5rwve2uggc2tvy               \ttrue \t0B        \t3 minutes ago\nTotal:\t291.6MB\n")).toBe(
      291_600_000,
    );
    expect(freedBytes("")).toBeNull();
  });

  it.each([
    ["0B", 0],
    ["1.5kB", 1500],
    ["2.794GiB", 3_000_034_656],
    ["12", null],
    ["1.2.3MB", null],
    ["3 apples", null],
  ])("knows the size %s", (text, bytes) => {
    expect(parseShownSize(text)).toBe(bytes);
  });
});

describe("a registry, by what Docker prints", () => {
  it("has a digest of the whole image, or none that can be told", () => {
    expect(
      digestIn(`Name:      r.example.net/x:1\nMediaType: application/vnd.oci.image.index.v1+json\nDigest:    ${digest}\n`),
    ).toBe(digest);
    expect(digestIn(`{"Ref": "x", "Descriptor": {"digest": "${digest}"}}`)).toBe(digest);
    expect(digestIn(`[{"Descriptor": {"digest": "${digest}"}}]`)).toBeNull();
    expect(digestIn("")).toBeNull();
    expect(pushedDigest(`8e383a8229bc: Layer already exists\nprobe: digest: ${digest} size: 1365\n`)).toBe(digest);
    expect(pushedDigest("The push refers to repository [r.example.net/x]\n")).toBeNull();
  });

  it.each([
    ["198.18.7.2:5000", true],
    ["127.0.0.1:5000", true],
    ["localhost:5000", true],
    ["plain.example.net:5000", true],
    ["198.20.0.1:5000", false],
    ["registry.example.net", false],
  ])("at %s is without TLS: %s", (server, expected) => {
    const config = {
      IndexConfigs: { "docker.io": { Secure: true }, "plain.example.net:5000": { Secure: false } },
      InsecureRegistryCIDRs: ["198.18.0.0/15", "::1/128", "127.0.0.0/8"],
    };
    expect(isInsecure(server, JSON.stringify(config))).toBe(expected);
    expect(isInsecure(server, "null")).toBe(false);
  });
});
