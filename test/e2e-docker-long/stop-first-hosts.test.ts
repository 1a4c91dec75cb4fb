/** Two hosts whose cards have no room for two instances: a release goes host by host, and somebody answers all the time. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { Bed } from "../support/bed/bed.js";
import { caddyImage, stubGpuImage } from "../support/bed/images.js";
import { pinned, Stack } from "../support/bed/stack.js";

const names = ["gpu-1", "gpu-2"] as const;
const cards = ["GPU-5d3c1ab0-6f0e-4c55-9d0a-1f2f3a4b5c6d", "GPU-7e4d2bc1-7a1f-4d66-8e1b-2a3a4b5c6d7e"] as const;
const port = 18_303;
const minutes = (count: number): number => count * 60_000;
/** Of the 15 GiB of the stand-in for a T4: one fits, two do not. */
const holds = 9000;

let bed: Bed;
let stack: Stack;

beforeAll(async () => {
  const [services, caddy] = [await stubGpuImage(), await caddyImage()];
  bed = await Bed.start(names.map((name, position) => ({ name, gpus: [{ uuid: cards[position] ?? "" }] })));
  const images = {
    services: await pinned(bed, bed.host("gpu-1"), services),
    proxy: await pinned(bed, bed.host("gpu-1"), caddy),
  };
  stack = await Stack.create(bed, { hosts: names, services: [embedder({})], images });
}, minutes(30));

afterAll(async () => {
  await stack.close();
  await bed.stop();
});

function embedder(env: Readonly<Record<string, string>>): string {
  const values = Object.entries({ BED_HOLDS_MIB: String(holds), ...env }).map(([name, value]) => `${name}: "${value}"`);
  return `embedder: { model: all-MiniLM-L6-v2, port: ${port}, device: { prefer: cuda, require: cuda }, env: { ${values.join(", ")} } }`;
}

const wish = (env: Readonly<Record<string, string>>): void => {
  stack.write({ services: [embedder(env)], extra: ["load: 2m", "keepWarm: 10m"] });
};

const answers = (host: string): Promise<boolean> =>
  fetch(`http://${bed.host(host).address}:${port}/health`, { signal: AbortSignal.timeout(5000) }).then(
    ({ status }) => status === 200,
    () => false,
  );

/** Which hosts were seen without an answer while something was done, and whether both were at one look. */
async function watched<T>(work: () => Promise<T>): Promise<{ result: T; dark: ReadonlySet<string>; allDark: boolean }> {
  const dark = new Set<string>();
  let [allDark, over] = [false, false];
  const watch = (async () => {
    while (!over) {
      const silent: string[] = [];
      for (const name of names) if (!(await answers(name))) silent.push(name);
      for (const name of silent) dark.add(name);
      allDark ||= silent.length === names.length;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  })();
  const result = await work().finally(() => {
    over = true;
  });
  await watch;
  return { result, dark, allDark };
}

test(
  "an upgrade stops one host at a time, and the other answers meanwhile",
  async () => {
    const first = await stack.run(["deploy", "-e", "prod"]);
    expect(first.code, first.stderr).toBe(0);
    wish({ NOTE: "second" });
    const plan = await stack.run(["plan", "-e", "prod"]);
    expect(plan.stdout).toMatch(/stop-first .*; host by host: gpu-1, then gpu-2, and the others answer meanwhile/);
    const { result, dark, allDark } = await watched(() => stack.run(["deploy", "-e", "prod"]));
    expect(result.code, result.stderr).toBe(0);
    expect([...dark].sort()).toEqual(names);
    expect(allDark).toBe(false);
    expect(await Promise.all(names.map(answers))).toEqual([true, true]);
  },
  minutes(12),
);

test(
  "a candidate that fails on the first host gives its card back, and the second is never touched",
  async () => {
    wish({ BED_HOLDS_MIB: "0", NOTE: "third" });
    const { result, dark } = await watched(() => stack.run(["deploy", "-e", "prod"]));
    expect(result.code, result.stderr).toBe(6);
    expect(result.stderr).toContain("not on GPU");
    expect([...dark]).toEqual(["gpu-1"]);
    expect(await Promise.all(names.map(answers))).toEqual([true, true]);
    const candidates = await bed.host("gpu-2").must(["sh", "-c", "docker ps --all --format '{{.Label \"dev.gpuctl.release\"}}'"]);
    expect(candidates).not.toMatch(/r3-/);
  },
  minutes(12),
);
