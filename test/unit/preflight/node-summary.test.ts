import { expect, test } from "vitest";
import {
  latestSummaries,
  summaryOf,
  withGpuContainer,
  type NodeSummary,
} from "../../../cli/src/domain/preflight/node-summary.js";
import { factsOf } from "./captures.js";

const driverPackages = [
  "libnvidia-compute-580-server",
  "linux-modules-nvidia-580-server-open-generic",
  "nvidia-utils-580-server",
];
const at = "2026-03-01T12:00:00.000Z";

test("what is kept of a GPU node: versions, cards and who holds them, room, clock", () => {
  expect(summaryOf("gpu-1", factsOf("t4-ubuntu"), at)).toEqual({
    node: "gpu-1",
    seenAt: at,
    system: "Ubuntu 24.04.3 LTS",
    kernel: "6.8.0-88-generic",
    docker: "28.5.2",
    compose: "2.40.3",
    driver: "580.95.05",
    toolkit: "1.18.1",
    gpus: [
      {
        index: 0,
        uuid: "GPU-5a1c3d0e-7b52-4f0a-9c1e-0d6a1f2b3c4d",
        name: "Tesla T4",
        totalMiB: 15360,
        freeMiB: 12606,
        holders: [{ who: "shop-production-reranker-a", usedMiB: 2304 }],
      },
    ],
    disk: { path: "/var/lib/docker", freeBytes: 403_101_818_880, totalBytes: 490_577_010_688 },
    clock: { skewMs: 0, boundMs: 251 },
    details: {
      memory: { totalMiB: 32_000, availableMiB: 28_000 },
      ports: [
        "0.0.0.0:22 sshd (pid 1204)",
        "[::]:22 sshd (pid 1204)",
        "10.0.0.5:8001 container shop-production-caddy",
        "10.0.0.5:8002 container shop-production-caddy",
        "10.0.0.5:8003 container shop-production-caddy",
      ],
      firewall: { ufw: "deny", firewalld: false, dockerUser: ["-A DOCKER-USER -j RETURN"] },
      cdiDevices: ["nvidia.com/gpu=0", "nvidia.com/gpu=GPU-5a1c3d0e-7b52-4f0a-9c1e-0d6a1f2b3c4d", "nvidia.com/gpu=all"],
      persistence: true,
      driverPackages: { installed: driverPackages, held: driverPackages },
      secureBoot: false,
      wsl: null,
      access: { user: "deploy", root: "sudo" },
      driverFiles: { module: "580.95.05", library: "580.95.05" },
      cdi: true,
      rebootPending: null,
    },
  });
});

test("what cannot be seen is null, also the cards of a half upgraded driver", () => {
  expect(summaryOf("gpu-1", factsOf("bare-ubuntu"), at)).toMatchObject({ docker: null, compose: null, driver: null, gpus: [] });
  expect(summaryOf("gpu-1", factsOf("after-upgrade"), at)).toMatchObject({ gpus: null });
});

test("a GPU that dozens share names the eight that hold most", () => {
  const uuid = "GPU-5a1c3d0e-7b52-4f0a-9c1e-0d6a1f2b3c4d";
  const apps = Array.from({ length: 20 }, (_, each) => `${uuid}, ${each + 1}, ${each * 10}, worker\n`).join("");
  const { gpus } = summaryOf("gpu-1", factsOf("t4-ubuntu", { "smi-apps": [0, apps], "gpu-owners": [0, ""] }), at);
  expect(gpus?.[0]?.holders.map(({ usedMiB }) => usedMiB)).toEqual([190, 180, 170, 160, 150, 140, 130, 120]);
});

test("what is kept of one that is amiss: no root, a restart that is pending, a module that differs", () => {
  expect(summaryOf("gpu-1", factsOf("no-rights"), at).details).toMatchObject({
    access: { user: "guest", root: null },
    cdi: null,
  });
  const { rebootPending, driverFiles } = summaryOf("gpu-1", factsOf("after-upgrade"), at).details ?? {};
  expect(rebootPending).toEqual(expect.arrayContaining([expect.stringContaining("nvidia") as string]));
  expect(driverFiles).toEqual({ module: "580.105.08", library: "580.105.08" });
});

test("how a GPU container ended is kept for each GPU, the last time that a deploy tried it", () => {
  const seen = (time: string, what: string, device = "nvidia.com/gpu=0") => ({ device, what, at: time });
  const summary = summaryOf("a", factsOf("t4-ubuntu"), at);
  const old = [seen("1", "old"), seen("1", "kept", "nvidia.com/gpu=1")].reduce(withGpuContainer, summary);
  const now = withGpuContainer(summary, seen("2", "new"));
  const kept = (latest: readonly NodeSummary[]): unknown => latest[0]?.details?.gpuContainers;
  expect(kept(latestSummaries([now], [old]))).toEqual([seen("1", "kept", "nvidia.com/gpu=1"), seen("2", "new")]);
  expect(kept(latestSummaries([summary], [old]))).toEqual(old.details?.gpuContainers);
  const { details, ...before } = summary;
  expect(details).toBeDefined();
  expect(withGpuContainer(before, seen("2", "new"))).toEqual(before);
});

test("a node that was not looked at keeps what was seen of it before", () => {
  const [old, now] = ["2026-01-01T00:00:00Z", at].map((time) => summaryOf("b", factsOf("t4-ubuntu"), time));
  const other = summaryOf("a", factsOf("bare-ubuntu"), "2026-01-01T00:00:00Z");
  expect(latestSummaries([now!], [other, old!]).map(({ node, seenAt }) => [node, seenAt])).toEqual([
    ["a", "2026-01-01T00:00:00Z"],
    ["b", at],
  ]);
});
