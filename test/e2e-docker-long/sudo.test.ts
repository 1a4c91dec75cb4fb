/** An account that is not root and becomes it by the real sudo: no file, no socket and no command needs another. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { Bed } from "../support/bed/bed.js";
import { caddyImage, serviceImage } from "../support/bed/images.js";
import { askEmbedder, pinned, Stack, SteadyClient } from "../support/bed/stack.js";

let bed: Bed;
let stack: Stack;
const embedder = (options = ""): string => `embedder: { model: all-MiniLM-L6-v2, port: 18101${options} }`;

beforeAll(async () => {
  const [services, caddy] = [await serviceImage(), await caddyImage()];
  bed = await Bed.start([{ name: "one" }]);
  const one = bed.host("one");
  // What root has to do must not work because the account may use Docker.
  await one.must(["gpasswd", "--delete", "deploy", "docker"]);
  const images = { services: await pinned(bed, one, services), proxy: await pinned(bed, one, caddy) };
  stack = await Stack.create(bed, { hosts: ["one"], user: "deploy", services: [embedder()], images });
}, 1_800_000);

afterAll(async () => {
  await stack.close();
  await bed.stop();
});

const ask = (): Promise<Response> => askEmbedder(bed.host("one").address, 18_101);

test("deploys, upgrades and rolls back by sudo, without a request that fails", async () => {
  const first = await stack.run(["deploy", "-e", "prod"]);
  expect(first.code, first.stderr).toBe(0);
  const client = new SteadyClient(ask, 200);
  stack.write({ services: [embedder(", options: { cacheEntries: 11 }")] });
  const upgrade = await stack.run(["deploy", "-e", "prod"]);
  const rollback = await stack.run(["rollback", "-e", "prod"]);
  await client.stop();
  expect(upgrade.code, upgrade.stderr).toBe(0);
  expect(rollback.code, rollback.stderr).toBe(0);
  expect(client.lapses).toEqual({});
  expect(client.answers).toBeGreaterThan(20);
  const sockets = await bed.host("one").must(["find", "/var/lib/gpuctl", "-path", "*/run/*", "-type", "d", "-perm", "/077"]);
  expect(sockets).toBe("");
}, 600_000);
