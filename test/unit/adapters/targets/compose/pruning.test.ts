import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { placeNode } from "../../../../../cli/src/adapters/targets/compose/host-place.js";
import { instancesOf, readKept } from "../../../../../cli/src/adapters/targets/compose/node-plan.js";
import { readHostView, type HostView } from "../../../../../cli/src/adapters/targets/compose/observation.js";
import { pruneNode } from "../../../../../cli/src/adapters/targets/compose/pruning.js";
import { layoutOf } from "../../../../../cli/src/domain/compose/host-files.js";
import { ownershipFilters } from "../../../../../cli/src/domain/compose/labels.js";
import type { ComposeNode } from "../../../../../cli/src/domain/compose/node.js";
import type { ServiceSpec } from "../../../../../cli/src/domain/release.js";
import type { Lease } from "../../../../../cli/src/ports.js";
import { instance, nodeWith, proxyImage, service, serviceImage } from "../../../compose/nodes.js";
import { ScriptedHost, type Reply } from "./scripted-host.js";

const filters = ownershipFilters("shop", "prod");
const imageWith = (digit: string): string => `registry.example.net/gpuctl/services@sha256:${digit.repeat(64)}`;
const retired = imageWith("7");
const idOf = (image: string): string => `sha256:${image.slice(-1).repeat(63)}0`;

let host: ScriptedHost;
let lease: Lease;
let node: ComposeNode;
/** Serves from slot a; the predecessor waits in b. */
const serving = instance("embedder", "a");
const before = instance("embedder", "b", { env: { NOTE: "before" } }, { release: "r11-00000011", id: "embedder-r11-00000011-b" });

beforeEach(async () => {
  host = new ScriptedHost();
  lease = host.takeLease();
  const dataDirectory = join(host.directory, "data");
  const images = [retired, serviceImage, proxyImage];
  node = nodeWith({ dataDirectory, services: [service("embedder", [serving, before])], images });
  await placeNode(host.commands, node, [], lease);
});
afterEach(() => host.dispose());

const seen = (silent: string | null = null): HostView =>
  readHostView(silent === null ? `docker 0 ok\n${containers}` : `docker 1 ${silent}`);
const containers = JSON.stringify(
  [serving, before].map(({ id, release }, position) => ({
    Id: position.toString().repeat(64),
    Name: `/${id}`,
    State: { Status: position === 0 ? "running" : "exited" },
    Config: { Labels: { "dev.gpuctl.instance": id, "dev.gpuctl.release": release } },
  })),
);

const pruned = (keep: readonly ServiceSpec[] = [serving.spec, before.spec], view = seen()): ReturnType<typeof pruneNode> => {
  const imageOf = (): { reference: string; local: null } => ({ reference: serviceImage, local: null });
  return pruneNode({ commands: host.commands, layout: layoutOf(node), filters, imageOf }, { view, node }, keep, lease);
};
const listed = (): readonly string[] => readKept(host.text("node.json") ?? "", "gpu-1", "node.json").images;
const put = (path: string): void => {
  const file = join(host.root, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, "x");
};
const there = (path: string): boolean => existsSync(join(host.root, path));

/** What Docker says where all images are there, and whose containers use one. */
const docker = (used: readonly string[] = []): readonly Reply[] => [
  { to: "*{{.Config.Image}}*", stdout: used.map((image) => `${idOf(image)} ${image}\n`).join("") },
  { to: "ps\\ --all\\ --quiet\\ --no-trunc", stdout: used.length === 0 ? "" : "one\n" },
  { to: `image\\ inspect*{{.Id}}*`, stdout: `${idOf(retired)}\n` },
  { to: `image\\ inspect*{{.Size}}*`, stdout: "4000\n" },
];
const removals = (): readonly string[] => host.changes().filter((line) => line.startsWith("docker image rm"));

describe("what is pruned although both places hold kept releases", () => {
  it("an image that an earlier release brought, and only that; afterwards nobody lists it", async () => {
    host.replies(docker([serviceImage, proxyImage]));
    expect(await pruned()).toEqual([{ what: `image ${retired}`, bytes: 4000 }]);
    expect(removals()).toEqual([`docker image rm ${retired}`]);
    expect(listed()).toEqual([serviceImage, proxyImage]);
  });

  it("no image that a container of anybody uses; it is tried again", async () => {
    host.replies(docker([retired]));
    expect(await pruned()).toEqual([]);
    expect(removals()).toEqual([]);
    expect(listed()).toContain(retired);
  });

  it("no image that a release of another environment of the host may go back to", async () => {
    host.replies(docker());
    host.file("data/other/prod/releases/r3-00000003.json", JSON.stringify({ code: { file: retired } }));
    expect(await pruned()).toEqual([]);
    expect(listed()).toContain(retired);
    host.file("data/other/prod/releases/r3-00000003.json", JSON.stringify({ code: { file: serviceImage } }));
    expect(await pruned()).toHaveLength(1);
  });

  it("an image that somebody removed by hand is forgotten; one that Docker refuses to remove is not", async () => {
    host.replies([{ to: "image\\ inspect*", stderr: "Error response from daemon: No such image: x\n", code: 1 }]);
    expect(await pruned()).toEqual([]);
    expect(listed()).toEqual([serviceImage, proxyImage]);
    await placeNode(host.commands, node, [], lease);
    host.replies([{ to: "image\\ rm*", stderr: "conflict: must be forced\n", code: 1 }, ...docker()]);
    expect(await pruned()).toEqual([]);
    expect(listed()).toContain(retired);
  });

  it("secrets of releases that are not kept, and gates, orders and sockets of instances that are gone", async () => {
    const gone = "embedder-r9-00000009-a";
    const strays = [
      `gates/${gone}`,
      `run/${gone}/instance.json`,
      `orders/${gone}`,
      `orders/${gone}.claimed`,
      "secrets/r9-00000009/embedder/KEY",
    ];
    const kept = [
      ...[serving, before].flatMap(({ id, release }) => [
        `gates/${id}`,
        `orders/${id}`,
        `run/${id}/instance.json`,
        `secrets/${release}/embedder/KEY`,
      ]),
      "run/proxy/admin.sock",
      "proxy/Caddyfile",
    ];
    for (const path of [...strays, ...kept]) put(path);
    await pruned();
    expect(strays.filter(there)).toEqual([]);
    expect(kept.filter(there)).toEqual(kept);
    expect(host.changes().filter((line) => line.startsWith("docker rm"))).toEqual([]);
  });
});

describe("a predecessor that nothing keeps any more", () => {
  it("goes with its container, its files and its secrets", async () => {
    host.replies([
      { to: "ps*embedder-r11*", stdout: "abc\n" },
      { to: "inspect\\ --size*", stdout: "77\n" },
      ...docker([retired]),
    ]);
    for (const { release } of [serving, before]) put(`secrets/${release}/embedder/KEY`);
    expect(await pruned([serving.spec])).toEqual([{ what: `container of ${before.id}`, bytes: 77 }]);
    expect(host.changes()).toContain("docker rm abc");
    expect([serving, before].map(({ release }) => there(`secrets/${release}`))).toEqual([true, false]);
    expect(instancesOf(readKept(host.text("node.json") ?? "", "gpu-1", "node.json")).map(({ id }) => id)).toEqual([serving.id]);
  });
});

it("touches nothing while Docker does not answer, or under a lease that is not the newest", async () => {
  put("secrets/r9-00000009/embedder/KEY");
  await expect(pruned(undefined, seen("Cannot connect to the Docker daemon"))).rejects.toThrow("Docker on gpu-1 does not answer");
  host.takeLease();
  await expect(pruned()).rejects.toThrow("the lease on gpu-1 was lost");
  expect(there("secrets/r9-00000009/embedder/KEY")).toBe(true);
});
