/** Hosts reached by the system's own ssh (`ssh: { client: openssh }`): everything that a deploy does goes through it. */
import { readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Bed } from "../support/bed/bed.js";
import { caddyImage, serviceImage } from "../support/bed/images.js";
import { askEmbedder, pinned, Stack, SteadyClient } from "../support/bed/stack.js";

let bed: Bed;
let stack: Stack;

beforeAll(async () => {
  const [services, caddy] = [await serviceImage(), await caddyImage()];
  bed = await Bed.start([{ name: "one" }, { name: "two" }]);
  const one = bed.host("one");
  const images = { services: await pinned(bed, one, services), proxy: await pinned(bed, one, caddy) };
  stack = await Stack.create(bed, { hosts: ["one", "two"], services: [embedder("")], images });
  byOpenssh();
}, 1_800_000);

afterAll(async () => {
  await stack.close();
  await bed.stop();
});

const embedder = (options: string): string => `embedder: { model: all-MiniLM-L6-v2, port: 18101${options} }`;

/** Says in gpuctl.yaml as it is now which client is meant. */
function byOpenssh(): void {
  const text = readFileSync(stack.sandbox.project, "utf8");
  const changed = text.replace("ssh: { knownHosts", "ssh: { client: openssh, knownHosts");
  expect(changed).not.toBe(text);
  writeFileSync(stack.sandbox.project, changed);
}

const ask = (host: string): Promise<Response> => askEmbedder(bed.host(host).address, 18_101);

test("two hosts are deployed to, upgraded and rolled back, without a request that fails, and told about line by line", async () => {
  const first = await stack.run(["deploy", "-e", "prod"]);
  expect(first.code, first.stderr).toBe(0);
  const clients = ["one", "two"].map((host) => new SteadyClient(() => ask(host), 500));
  stack.write({ services: [embedder(", options: { cacheEntries: 11 }")] });
  byOpenssh();
  const upgrade = await stack.run(["deploy", "-e", "prod"]);
  const rollback = await stack.run(["rollback", "-e", "prod"]);
  for (const client of clients) await client.stop();
  expect(upgrade.code, upgrade.stderr).toBe(0);
  expect(rollback.code, rollback.stderr).toBe(0);
  expect(clients.map(({ lapses }) => lapses)).toEqual([{}, {}]);
  expect(Math.min(...clients.map(({ answers }) => answers))).toBeGreaterThan(20);

  const logs = await stack.run(["logs", "embedder", "-e", "prod", "--lines", "5"]);
  expect(logs.code, logs.stderr).toBe(0);
  const lines = logs.stdout.trimEnd().split("\n");
  expect(new Set(lines.map((line) => /^(one|two) embedder-r\d+/.exec(line)?.[1]))).toEqual(new Set(["one", "two"]));
  const inside = await stack.run(["exec", "embedder", "-e", "prod", "--hosts", "two", "--", "id", "-u"]);
  expect(inside, inside.stderr).toMatchObject({ code: 0, stdout: "10001\n" });
}, 900_000);
