/** `gpuctl` on hosts as a person types it: real SSH, real Docker, Caddy and the services' own image with MiniLM on the CPU. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { Bed } from "../support/bed/bed.js";
import { caddyImage, serviceImage } from "../support/bed/images.js";
import { askEmbedder, pinned, Stack, SteadyClient } from "../support/bed/stack.js";

let bed: Bed;
let stack: Stack;
const images = { services: "", proxy: "" };
const embedder = (options = ""): string => `embedder: { model: all-MiniLM-L6-v2, port: 18101${options} }`;

beforeAll(async () => {
  const [services, caddy] = [await serviceImage(), await caddyImage()];
  bed = await Bed.start([{ name: "one" }, { name: "two" }]);
  images.services = await pinned(bed, bed.host("one"), services);
  images.proxy = await pinned(bed, bed.host("one"), caddy);
  stack = await Stack.create(bed, { hosts: ["one"], services: [embedder()], images });
}, 1_800_000);

afterAll(async () => {
  await stack.close();
  await bed.stop();
});

const ask = (host: string): Promise<Response> => askEmbedder(bed.host(host).address, 18_101);

test("a first deploy, an upgrade and a rollback, without a request that fails", async () => {
  const first = await stack.run(["deploy", "-e", "prod"]);
  expect(first.code, first.stderr).toBe(0);
  expect(first.stderr).toMatch(/pulling gpuctl-services@sha256:[0-9a-f]{12} on one +\d+ % +[\d.]+ [KMG]?i?B of [\d.]+ MiB/);
  expect((await ask("one")).status).toBe(200);
  const client = new SteadyClient(() => ask("one"), 200);
  stack.write({ services: [embedder(", options: { cacheEntries: 11 }")] });
  const upgrade = await stack.run(["deploy", "-e", "prod"]);
  const rollback = await stack.run(["rollback", "-e", "prod"]);
  await client.stop();
  expect(upgrade.code, upgrade.stderr).toBe(0);
  expect(rollback.code, rollback.stderr).toBe(0);
  expect(client.lapses).toEqual({});
  expect(client.answers).toBeGreaterThan(20);
}, 600_000);
