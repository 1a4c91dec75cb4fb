import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { placeNode } from "../../../../../cli/src/adapters/targets/compose/host-place.js";
import {
  composeNode,
  instancesOf,
  readKept,
  withInstance,
  withoutInstances,
  writeKept,
} from "../../../../../cli/src/adapters/targets/compose/node-plan.js";
import { startContainer } from "../../../../../cli/src/adapters/targets/compose/starting.js";
import { secretFiles } from "../../../../../cli/src/domain/compose/host-files.js";
import { ownershipFilters } from "../../../../../cli/src/domain/compose/labels.js";
import type { ComposeNode } from "../../../../../cli/src/domain/compose/node.js";
import { companions } from "../../../../../cli/src/domain/compose/render-compose.js";
import { mib } from "../../../../../cli/src/domain/units.js";
import type { Lease } from "../../../../../cli/src/ports.js";
import { instance, nodeWith, proxyImage, service } from "../../../compose/nodes.js";
import { until } from "../../../../support/until.js";
import { ScriptedHost } from "./scripted-host.js";

const secret = { secrets: { API_KEYS: "h".repeat(64) } };
const filters = ownershipFilters("shop", "prod");

describe("what the driver puts on a host", () => {
  let host: ScriptedHost;
  let lease: Lease;
  let node: ComposeNode;

  beforeEach(() => {
    host = new ScriptedHost();
    lease = host.takeLease();
    const dataDirectory = join(host.directory, "data");
    node = nodeWith({ dataDirectory, services: [service("embedder", [instance("embedder", "a", secret)])] });
  });
  afterEach(() => host.dispose());

  const mode = (path: string): string => (statSync(join(host.root, path)).mode & 0o7777).toString(8);
  const [placed] = instancesOf(nodeWith({ services: [service("embedder", [instance("embedder", "a", secret)])] }));
  const place = (secrets: Readonly<Record<string, string>> = {}): Promise<readonly string[]> =>
    placeNode(host.commands, node, secretFiles(node, placed!, secrets), lease);

  it("makes directories and files with their modes, secrets readable by the container alone", async () => {
    await place({ API_KEYS: "s3cret\n" });
    expect(["gates", "secrets", "orders", `run/${placed!.id}`].map(mode)).toEqual(["755", "700", "700", "700"]);
    expect([mode("compose.yaml"), mode("node.json"), mode(`run/${placed!.id}/instance.json`)]).toEqual(["644", "600", "400"]);
    expect(mode(`secrets/${placed!.release}/embedder/API_KEYS`)).toBe("400");
    expect(host.text(`secrets/${placed!.release}/embedder/API_KEYS`)).toBe("s3cret\n");
    expect(host.text("proxy/Caddyfile")).toContain("health_uri /health/traffic");
    expect(host.asked()).toEqual([
      `docker compose --project-name gpuctl_shop_prod --project-directory ${host.root} --file - config --quiet`,
    ]);
  });

  it("replaces only what differs: nothing the second time, one file when a person edited one", async () => {
    expect(await place()).toHaveLength(5);
    expect(await place()).toEqual([]);
    writeFileSync(join(host.root, "README.txt"), "mine");
    expect(await place()).toEqual([join(host.root, "README.txt")]);
  });

  it("leaves the proxy's configuration alone when an instance comes into the other slot", async () => {
    await place();
    node = withInstance(node, instance("embedder", "b"));
    const changed = await place();
    expect(changed.map((path) => path.slice(host.root.length + 1))).toEqual([
      "node.json",
      "run/embedder-r12-9f3ab2c1-b/instance.json",
      "compose.yaml",
      "README.txt",
    ]);
  });

  it("never puts a Compose file in place that Docker does not take", async () => {
    host.replies([{ to: "*config*", stderr: "services.embedder-a additional properties 'x' not allowed\n", code: 15 }]);
    await expect(place()).rejects.toThrow("Docker Compose does not take the rendered Compose file on gpu-1");
    expect(host.text("compose.yaml")).toBeNull();
  });

  it("changes nothing under a lease that is not the newest", async () => {
    host.takeLease();
    await expect(place()).rejects.toThrow("the lease on gpu-1 was lost");
    expect(host.text("node.json")).toBeNull();
  });

  it("starts a container under its own name, closed, not restarted, and touches no other", async () => {
    await place();
    const before = host.asked().length;
    await startContainer({ commands: host.commands, node, filters }, placed!, lease);
    const name = "gpuctl_shop_prod_embedder-a";
    const compose = `docker compose --project-name gpuctl_shop_prod --project-directory ${host.root} --file ${host.root}/compose.yaml`;
    expect(host.asked().slice(before)).toEqual([
      `docker inspect --format {{.State.Running}} {{index .Config.Labels "dev.gpuctl.instance"}} ${name}`,
      `${compose} create --no-build --pull never --no-recreate embedder-a`,
      `docker update --restart no ${name}`,
      `docker start ${name}`,
    ]);
    expect(host.text(`gates/${placed!.id}`)).toBe("closed\n");
  });

  it("leaves what runs alone, empties a place that another instance has left, and refuses one that still runs", async () => {
    await place();
    writeFileSync(join(host.root, "gates", placed!.id), "open\n");
    const started = (): Promise<void> => startContainer({ commands: host.commands, node, filters }, placed!, lease);
    host.replies([{ to: "inspect*", stdout: `true ${placed!.id}\n` }]);
    const before = host.changes().length;
    await started();
    expect(host.changes().length).toBe(before);
    expect(host.text(`gates/${placed!.id}`)).toBe("open\n");
    host.replies([{ to: "inspect*", stdout: "true embedder-r9-00000009-a\n" }]);
    await expect(started()).rejects.toMatchObject({ because: "gpuctl_shop_prod_embedder-a still runs embedder-r9-00000009-a" });
    host.replies([{ to: "inspect*", stdout: "false embedder-r9-00000009-a\n" }]);
    await started();
    expect(host.changes()[before]).toBe("docker rm gpuctl_shop_prod_embedder-a");
  });

  it.each([
    ["removes what an abandoned start has begun before it gives up", "closed", true],
    ["leaves alone what serves, should its start be abandoned", "open", false],
  ])("%s", async (_, gate, removed) => {
    await place();
    const name = "gpuctl_shop_prod_embedder-a";
    const log = `printf 'docker %s\\n' "$*" >>'${host.directory}/asked'`;
    const slow = `printf '%s\\n' ${gate} >'${join(host.root, "gates", placed!.id)}'; sleep 60`;
    const owner = `inspect*State*) exit 1 ;; inspect*) echo ${placed!.id} ;;`;
    host.program("docker", `${log}\ncase "$*" in start*) ${slow} ;; ${owner} esac\nexit 0`);
    const gaveUp = new AbortController();
    const starting = startContainer({ commands: host.commands, node, filters }, placed!, lease, gaveUp.signal);
    starting.catch(() => undefined);
    await until(() => Promise.resolve(host.asked().includes(`docker start ${name}`)), "Docker was told to start it", 20_000);
    gaveUp.abort(new Error("it took too long"));
    await expect(starting).rejects.toThrow();
    expect(host.asked().includes(`docker rm --force ${name}`)).toBe(removed);
    const later = host.asked().length;
    await expect(startContainer({ commands: host.commands, node, filters }, placed!, lease, gaveUp.signal)).rejects.toThrow(
      "it took too long",
    );
    expect(host.asked()).toHaveLength(later);
  });

  it("says in Docker's words why a container does not start", async () => {
    await place();
    const said = "Error response from daemon: failed to create task: unresolvable CDI devices nvidia.com/gpu=GPU-1";
    host.replies([{ to: "start*", stderr: `${said}\n`, code: 1 }]);
    await expect(startContainer({ commands: host.commands, node, filters }, placed!, lease)).rejects.toMatchObject({
      because: said,
    });
  });
});

describe("what compose.yaml was rendered from", () => {
  const { services: _, hostMemory: __, ...rest } = nodeWith();
  const settings = { ...rest, services: [{ service: "embedder", port: 8001, cpuFallback: false }] } as const;

  it("keeps instances over a change of settings, also of a service that is no longer configured", () => {
    const kept = {
      hostMemory: mib(4096),
      services: [service("embedder", [instance("embedder", "a")]), service("index", [instance("index", "b")])],
      images: [],
    };
    const node = composeNode({ ...settings, services: [{ ...settings.services[0], port: 9001 }] }, kept);
    expect(node.services.map(({ service: name, port, instances }) => [name, port, instances.length])).toEqual([
      ["embedder", 9001, 1],
      ["index", 8003, 1],
    ]);
    const empty = withoutInstances(node, new Set(instancesOf(node).map(({ id }) => id)));
    expect(composeNode(settings, empty).services.map(({ service: name }) => name)).toEqual(["embedder"]);
  });

  it("lists services in one order whatever is configured: in another one the proxy would be made anew for nothing", () => {
    const kept = { hostMemory: mib(4096), services: [service("embedder", [instance("embedder", "a")])], images: [] };
    const [embedder, index] = [settings.services[0], { service: "index", port: 8003, cpuFallback: false } as const];
    const before = composeNode({ ...settings, services: [embedder, index] }, kept);
    const after = composeNode({ ...settings, services: [index] }, kept);
    expect(companions(after)[0]?.hash).toBe(companions(before)[0]?.hash);
  });

  it("remembers every image that was brought, also when nobody has a place any more, and of an older file those that it names", () => {
    const [first, second] = ["1", "2"].map((digit) => `registry.example.net/x@sha256:${digit.repeat(64)}`) as [string, string];
    const node = withInstance(nodeWith({ images: [] }), instance("embedder", "a", {}, { image: first }));
    const next = withInstance(node, instance("embedder", "a", {}, { image: second }));
    expect(instancesOf(next).map(({ image }) => image)).toEqual([second]);
    expect(readKept(writeKept(next), "gpu-1", "node.json").images).toEqual([first, second]);
    expect(composeNode({ ...settings, proxyImage }, next).images).toEqual([first, second, proxyImage]);
    const { images: ___, ...older } = JSON.parse(writeKept(next)) as Record<string, unknown>;
    expect(readKept(JSON.stringify(older), "gpu-1", "node.json").images).toEqual([second]);
  });

  it("is refused when gpuctl did not write it", () => {
    for (const text of ["{", "[]", '{"schemaVersion":2,"hostMemory":1,"services":[]}'])
      expect(() => readKept(text, "gpu-1", "/x/node.json")).toThrow("/x/node.json on gpu-1 cannot be understood");
  });
});
