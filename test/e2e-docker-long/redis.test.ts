/** Redis beside the services: as `gpuctl deploy` runs it on a host, and as the overlay for plain Docker Compose does. */
import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RehearsedStep } from "../../cli/src/domain/rehearsal.js";
import { Bed } from "../support/bed/bed.js";
import { ComposeProject } from "../support/bed/compose-project.js";
import type { BedHost } from "../support/bed/host.js";
import { caddyImage, redisImage, serviceImage } from "../support/bed/images.js";
import { pinned, Stack, SteadyClient } from "../support/bed/stack.js";
import { until } from "../support/until.js";

const patience = 240_000;
const mib = 1024 * 1024;
let bed: Bed;
let host: BedHost;
/** In the bed's registry, by tag. */
let names: { services: string; redis: string };

beforeAll(async () => {
  const [services, redis] = [await serviceImage(), await redisImage()];
  await caddyImage();
  bed = await Bed.start([{ name: "one" }]);
  host = bed.host("one");
  names = { services, redis };
}, 1_800_000);

afterAll(async () => {
  await bed.stop();
});

/** A metric's value in the text of /metrics; NaN when it is not there. */
const valueOf = (text: string, name: string): number =>
  Number(
    text
      .split("\n")
      .find((line) => line.startsWith(`${name} `))
      ?.slice(name.length),
  );

describe("on a host that gpuctl deploys to", () => {
  const container = "gpuctl_shop_prod_redis";
  const port = 18_101;
  let stack: Stack;
  let client: SteadyClient;
  let image: string;
  /** Which process the proxy is, and since when. */
  const proxy = (): Promise<string> =>
    host.must(["docker", "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", "gpuctl_shop_prod_proxy"]);
  let firstProxy: string;
  let asked = 0;

  beforeAll(async () => {
    const images = {
      services: await pinned(bed, host, names.services),
      proxy: await pinned(bed, host, await caddyImage()),
      redis: await pinned(bed, host, names.redis),
    };
    image = images.redis;
    stack = await Stack.create(bed, { hosts: ["one"], services: [], images });
  });

  afterAll(async () => {
    await client.stop();
    await stack.close();
  });

  /** Without a memory of its own an instance finds in Redis whatever it finds. */
  function configure(cacheEntries: number, redis = true): void {
    // Longer than the 5 ms that a request waits by default: this machine is busy.
    const url = redis ? ", redisUrl: redis://redis:6379/0, redisTimeout: 500ms" : "";
    const options = `options: { cacheEntries: ${String(cacheEntries)}${url} }`;
    stack.write({ services: [`embedder: { model: all-MiniLM-L6-v2, device: cpu, port: ${port}, ${options} }`] });
  }

  const embed = (texts: readonly string[]): Promise<Response> =>
    fetch(`http://${host.address}:${port}/embed`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ inputs: texts }),
      signal: AbortSignal.timeout(20_000),
    });
  /** How many of the texts a cache knew. */
  async function known(texts: readonly string[]): Promise<string | null> {
    const answer = await embed(texts);
    expect(answer.status).toBe(200);
    await answer.arrayBuffer();
    return answer.headers.get("x-gpuctl-cache");
  }
  const metric = async (name: string): Promise<number> => {
    const text = await (await fetch(`http://${host.address}:${port}/metrics`)).text();
    return valueOf(text, name);
  };
  const fromRedis = (): Promise<number> => metric('gpuctl_cache_hits_total{level="redis"}');
  const lost = (): Promise<number> => metric('gpuctl_cache_redis_errors_total{kind="connection"}');
  const connected = (): Promise<void> =>
    until(async () => (await metric("gpuctl_cache_redis_up")) === 1, "the embedder has found Redis", patience);
  const inspect = async (format: string): Promise<unknown> =>
    JSON.parse(await host.must(["docker", "inspect", "--format", `{{json ${format}}}`, container])) as unknown;
  const exists = async (): Promise<boolean> => (await host.exec(["docker", "inspect", container])).code === 0;
  const redis = async (...command: string[]): Promise<string> =>
    (await host.must(["docker", "exec", container, "redis-cli", ...command])).trim();
  async function gpuctl(...args: string[]): Promise<string> {
    const ran = await stack.run([...args, "-e", "prod"]);
    expect(ran.code, ran.stderr).toBe(0);
    return ran.stdout;
  }

  test("it runs bounded, as nobody in particular, without files, and nobody outside reaches it", async () => {
    configure(0);
    expect(await gpuctl("deploy", "--dry-run")).toContain(`docker pull ${image}`);
    expect(await exists()).toBe(false);
    await gpuctl("deploy");
    firstProxy = await proxy();
    client = new SteadyClient(() => embed([`a steady text, number ${String((asked += 1))}`]), 100, 1);
    await until(async () => (await inspect(".State.Health.Status")) === "healthy", "Redis is healthy", patience);
    expect(await inspect(".HostConfig")).toMatchObject({
      ReadonlyRootfs: true,
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges:true"],
      Memory: (512 * 1.5 + 64) * mib,
      PidsLimit: 256,
      RestartPolicy: { Name: "always" },
    });
    const status = await host.must(["docker", "exec", container, "cat", "/proc/1/status"]);
    expect(status).toMatch(/^Name:\s+redis-server$/m);
    expect(status).toMatch(/^Uid:\s+10001\s+10001\s/m);
    expect(status).toMatch(/^CapBnd:\s+0+$/m);
    expect(await inspect(".Mounts")).toEqual([]);
    expect(Object.keys((await inspect(".NetworkSettings.Networks")) as object)).toEqual(["gpuctl_shop_prod_inside"]);
    expect(
      Object.values((await inspect(".NetworkSettings.Ports")) as object)
        .flat()
        .filter(Boolean),
    ).toEqual([]);
    expect(await listens(host.address, 6379)).toBe(false);
    expect(await listens(host.address, port)).toBe(true);
    const settings = { maxmemory: String(512 * mib), "maxmemory-policy": "allkeys-lfu", save: "", appendonly: "no" };
    for (const [name, value] of Object.entries(settings))
      expect(await redis("config", "get", name)).toBe(`${name}\n${value}`.trim());
  }, 900_000);

  const texts = Array.from({ length: 20 }, (_, n) => `A sentence about a warehouse, number ${String(n)}.`);

  test("what was computed once is found in it, and by the next release too", async () => {
    await connected();
    expect(await known(texts)).toBe("0/20");
    const before = await fromRedis();
    expect(await known(texts)).toBe("20/20");
    expect(await fromRedis()).toBe(before + 20);
    expect(Number(await redis("dbsize"))).toBeGreaterThanOrEqual(20);

    configure(5000);
    await gpuctl("deploy");
    await connected();
    const first = await fromRedis();
    expect(await known(texts)).toBe("20/20");
    expect(await fromRedis()).toBe(first + 20);
    // From its own memory by now.
    expect(await known(texts)).toBe("20/20");
    expect(await fromRedis()).toBe(first + 20);
    expect(client.failures).toEqual({});
  }, 900_000);

  test("killed, it comes back by itself and empty, and is found again", async () => {
    const [pid, errors] = [(await inspect(".State.Pid")) as number, await lost()];
    await host.must(["kill", "-KILL", String(pid)]);
    const another = async (): Promise<boolean> =>
      (await inspect(".State.Running")) === true && ![0, pid].includes((await inspect(".State.Pid")) as number);
    await until(another, "Docker has started Redis again", patience);
    await until(async () => (await lost()) > errors, "the loss is counted", patience);
    await connected();
    await until(async () => Number(await redis("dbsize")) > 0, "new answers are kept", patience);
    expect(client.failures).toEqual({});
  });

  test("stopped, requests go on without it, status says so, and repair or a deploy brings it back", async () => {
    const missing = async (): Promise<readonly string[]> => {
      const { stdout } = await stack.run(["status", "-e", "prod", "--json"]);
      return (JSON.parse(stdout) as { result: { drift: string[] } }).result.drift;
    };
    expect(await missing()).toEqual([]);
    const errors = await lost();
    await host.must(["docker", "stop", container]);
    expect(await known(texts.map((text) => `${text} Again.`))).toBe("0/20");
    expect(await known(texts.map((text) => `${text} Again.`))).toBe("20/20");
    await until(async () => (await lost()) > errors, "the loss is counted", patience);
    expect(await metric("gpuctl_cache_redis_up")).toBe(0);
    expect(await missing()).toEqual(["proxy     start what belongs beside it (the redis on one is exited)"]);
    const said = await stack.run(["status", "-e", "prod"]);
    expect(said.stdout).toContain("drift: proxy     start what belongs beside it (the redis on one is exited)");
    expect(await gpuctl("repair")).toContain("the redis on one is exited");
    expect(await inspect(".State.Running")).toBe(true);
    await connected();
    expect(await missing()).toEqual([]);

    await host.must(["docker", "rm", "--force", container]);
    expect(await missing()).toEqual(["proxy     start what belongs beside it (no redis on one)"]);
    configure(6000);
    await gpuctl("deploy");
    expect(await inspect(".State.Running")).toBe(true);
    await connected();
    expect(await missing()).toEqual([]);
    expect(client.failures).toEqual({});
  }, 900_000);

  test("once gpuctl.yaml has no use for it the next deploy ends it", async () => {
    configure(7000, false);
    const { steps } = await stack.result<{ steps: RehearsedStep[] }>(["deploy", "-e", "prod", "--dry-run"]);
    const lines = steps.flatMap((step) => (step.kind === "command" ? [step.argv.join(" ")] : []));
    expect(lines.filter((line) => /docker rm --force "\$@" .* gpuctl_shop_prod_redis$/.test(line))).toHaveLength(1);
    expect(await exists()).toBe(true);
    await gpuctl("deploy");
    expect(await exists()).toBe(false);
    expect(await known(texts)).toBe("0/20");
    expect(await proxy()).toBe(firstProxy);
    await client.stop();
    expect(client.failures).toEqual({});
    expect(client.answers).toBeGreaterThan(100);
  }, 900_000);
});

describe("docker compose up with the overlay", () => {
  let project: ComposeProject;
  const overlays = ["cpu", "redis"];

  beforeAll(async () => {
    const [image, redis] = [`${bed.registry.address}/${names.services}`, `${bed.registry.address}/${names.redis}`];
    for (const each of [image, redis]) await host.must(["docker", "pull", "--quiet", each], { timeoutMs: 300_000 });
    project = new ComposeProject(host);
    await project.install({ IMAGE: image, REDIS_IMAGE: redis });
    await project.must(["up", "--detach", "--wait", "--no-build"], overlays);
  }, 900_000);

  const embed = async (text: string): Promise<void> => {
    expect((await project.request(8001, "/embed", { inputs: [text] })).status).toBe(200);
  };
  const metric = async (name: string): Promise<number> => {
    const text = await host.must(["curl", "-s", "http://127.0.0.1:8001/metrics"]);
    return valueOf(text, name);
  };
  const fromRedis = (): Promise<number> => metric('gpuctl_cache_hits_total{level="redis"}');
  const redis = async (...command: string[]): Promise<string> =>
    (await project.must(["exec", "-T", "redis", "redis-cli", ...command], overlays)).trim();

  test("answers outlive the container that computed them, and Redis is bounded and nobody's but theirs", async () => {
    let number = 0;
    const kept = async (): Promise<boolean> => (
      await embed(`text ${String((number += 1))}`),
      Number(await redis("dbsize")) >= 20
    );
    await until(kept, "20 answers are in Redis", patience);
    await project.must(["up", "--detach", "--wait", "--no-build", "--force-recreate", "embedder"], overlays);
    let again = 0;
    const found = async (): Promise<boolean> => (await embed(`text ${String((again += 1))}`), (await fromRedis()) > 0);
    await until(found, "one is found there by the new container", patience);
    expect(again).toBeLessThanOrEqual(number);

    expect(await redis("config", "get", "maxmemory")).toBe(`maxmemory\n${String(512 * mib)}`);
    expect(await redis("config", "get", "maxmemory-policy")).toBe("maxmemory-policy\nallkeys-lru");
    expect(await redis("config", "get", "save")).toBe("save");
    expect(await project.must(["ps", "--format", "{{.Service}} {{.Ports}}", "redis"], overlays)).not.toContain("->");
    expect((await project.inside("index", ["python3", "-c", "import socket; socket.gethostbyname('redis')"])).code).not.toBe(0);
    await project.must(["stop", "redis"], overlays);
    await embed("a text that nobody knows");
    await until(async () => (await metric("gpuctl_cache_redis_up")) === 0, "the loss is noticed", patience);
    await embed("another text that nobody knows");
    await project.must(["down", "--volumes"], overlays);
  }, 900_000);
});

/** Whether somebody accepts connections there. */
function listens(address: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port, timeout: 3000 });
    const settle = (answer: boolean) => () => {
      socket.destroy();
      resolve(answer);
    };
    socket.once("connect", settle(true)).once("error", settle(false)).once("timeout", settle(false));
  });
}
