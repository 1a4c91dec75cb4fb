/** An environment without a registry: images are sent from the Docker of the machine that deploys, layer by layer. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Bed } from "../support/bed/bed.js";
import { dockerClient } from "../support/bed/docker-client.js";
import { caddyImage, serviceImage } from "../support/bed/images.js";
import { Stack } from "../support/bed/stack.js";

const minutes = 60_000;
let bed: Bed;
let stack: Stack;
let desk: Readonly<Record<string, string>>;

beforeAll(async () => {
  const [services, caddy] = [await serviceImage(), await caddyImage()];
  bed = await Bed.start([{ name: "desk" }, { name: "box" }]);
  const images = { services: await onDesk(services, "gpuctl-services:cpu-0"), proxy: await onDesk(caddy, "caddy:2") };
  stack = await Stack.create(bed, {
    hosts: ["box"],
    services: ["index: { port: 18103, options: { dimension: 4 } }"],
    images: { services: null, proxy: images.proxy },
  });
  pin(images.services);
  desk = (await dockerClient(join(bed.folder, "desk"), bed.host("desk"))).env;
}, 30 * minutes);

afterAll(async () => {
  await stack.close();
  await bed.stop();
});

/** Into the Docker of the machine that deploys; its id there. */
async function onDesk(image: string, name: string): Promise<string> {
  const host = bed.host("desk");
  await host.must(["docker", "pull", "--quiet", `${bed.registry.address}/${image}`], { timeoutMs: 10 * minutes });
  await host.must(["docker", "tag", `${bed.registry.address}/${image}`, name]);
  return (await host.must(["docker", "image", "inspect", "--format", "{{.Id}}", name])).trim();
}

/** As `gpuctl images build` does in such an environment. */
function pin(digest: string): void {
  const file = join(stack.sandbox.directory, "gpuctl.lock.json");
  const lock = existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as object) : { schemaVersion: 1, models: {} };
  const image = { ref: "gpuctl-services:cpu-0", digest, contents: "0".repeat(64) };
  writeFileSync(file, JSON.stringify({ ...lock, images: { "services-cpu": image } }));
}

const sentTotal = (stderr: string): readonly string[] => [...stderr.matchAll(/sending an image to box.*/g)].map(([line]) => line);

test(
  "images are sent, what an ended command has sent is not sent again, and a new image is its new layers",
  async () => {
    await bed.registry.stop();
    const first = stack.start(["deploy", "-e", "prod"], desk);
    await first.saysOnStderr(/sending an image to box/);
    first.child.kill("SIGKILL");
    await first.ended;
    const again = await stack.run(["deploy", "-e", "prod"], desk);
    expect(again.code, again.stderr).toBe(0);
    expect(again.stderr).toContain("was sent to box");
    expect(await bed.host("box").must(["ls", "-A", "/var/lib/gpuctl/.incoming"])).toBe("");
    const health = await fetch(`http://${bed.host("box").address}:18103/health`);
    expect(health.status).toBe(200);

    const made = "FROM gpuctl-services:cpu-0\nUSER 0\nCOPY note /note\nUSER 10001:10001\n";
    await bed
      .host("desk")
      .must(
        [
          "sh",
          "-c",
          `mkdir -p /tmp/new && cd /tmp/new && echo new >note && cat >Dockerfile && docker build --provenance false -t gpuctl-services:cpu-1 .`,
        ],
        { input: made, timeoutMs: 5 * minutes },
      );
    const id = await bed.host("desk").must(["docker", "image", "inspect", "--format", "{{.Id}}", "gpuctl-services:cpu-1"]);
    pin(id.trim());
    const upgrade = await stack.run(["deploy", "-e", "prod"], desk);
    expect(upgrade.code, upgrade.stderr).toBe(0);
    expect(sentTotal(upgrade.stderr).at(-1)).toMatch(/KiB|kB|\d+ B/);
    expect(await bed.host("box").must(["docker", "image", "inspect", "--format", "{{.Id}}", id.trim()])).toBe(id);
  },
  20 * minutes,
);
