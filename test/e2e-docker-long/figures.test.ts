/**
 * How long things take on hosts: each phase of a deploy, one with nothing to do, rollbacks, and the gap where an old instance has to
 * stop first. Figures are printed and kept (GPUCTL_TEST_FIGURES); nothing is asserted about time.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:http";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Bed } from "../support/bed/bed.js";
import { caddyImage, serviceImage, stubGpuImage } from "../support/bed/images.js";
import { pinned, Stack } from "../support/bed/stack.js";
import type { JsonDocument } from "../support/sandbox.js";

const minutes = (count: number): number => count * 60_000;
const card = "GPU-5d3c1ab0-6f0e-4c55-9d0a-1f2f3a4b5c6d";
const repeats = 3;
const [cpuPort, gpuPort] = [18_401, 18_402];

let bed: Bed;
const figures: Record<string, unknown> = {
  at: new Date().toISOString(),
  host: "a host of the bed; SSH to a namespace of this machine",
};

beforeAll(async () => {
  for (const image of [serviceImage, caddyImage, stubGpuImage]) await image();
  bed = await Bed.start([{ name: "box" }, { name: "gpu-1", gpus: [{ uuid: card }] }]);
}, minutes(30));

afterAll(async () => {
  await bed.stop();
  const text = `${JSON.stringify(figures, null, 2)}\n`;
  process.stderr.write(text);
  const folder = process.env["GPUCTL_TEST_FIGURES"];
  if (folder === undefined) return;
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "hosts.json"), text);
});

async function stackOn(host: string, image: string, service: string): Promise<Stack> {
  const on = bed.host(host);
  const images = { services: await pinned(bed, on, image), proxy: await pinned(bed, on, await caddyImage()) };
  return Stack.create(bed, { hosts: [host], services: [service], images });
}

interface Timed {
  /** From the start of the command to its end, Node included, milliseconds. */
  commandMs: number;
  result: { elapsedMs: number; switchMs: number | null; movedAfterMs?: number; path?: string };
  /** Milliseconds by phase; of one that runs for several services, their sum. */
  phases: Readonly<Record<string, number>>;
}

async function timed(stack: Stack, args: readonly string[]): Promise<Timed> {
  const began = performance.now();
  const ran = await stack.run([...args, "-e", "prod", "--json"]);
  const commandMs = Math.round(performance.now() - began);
  expect(ran.code, `${ran.stdout}\n${ran.stderr}`).toBe(0);
  const document = JSON.parse(ran.stdout) as JsonDocument & { events: { phase: string; state: string; elapsedMs?: number }[] };
  const phases: Record<string, number> = {};
  for (const { phase, state, elapsedMs = 0 } of document.events)
    if (state === "end") phases[phase] = (phases[phase] ?? 0) + elapsedMs;
  return { commandMs, result: document.result as Timed["result"], phases };
}

const embedder = (note: string): string =>
  `embedder: { model: all-MiniLM-L6-v2, port: ${cpuPort}, device: { prefer: cpu }, env: { NOTE: "${note}" } }`;

test(
  "a deploy by its phases, one with nothing to do, and the ways back",
  async () => {
    const stack = await stackOn("box", await serviceImage(), embedder("one"));
    figures["first deploy"] = await timed(stack, ["deploy"]);
    figures["nothing to do"] = (await repeated(() => timed(stack, ["deploy"]))).map(({ commandMs }) => commandMs);
    stack.write({ services: [embedder("two")] });
    figures["upgrade"] = await timed(stack, ["deploy"]);
    const warm = await repeated(() => timed(stack, ["rollback"]));
    expect(warm.map(({ result }) => result.path)).toEqual(Array<string>(repeats).fill("warm"));
    figures["warm rollback"] = warm;
    stack.write({ extra: ["keepWarm: 0s"] });
    await timed(stack, ["rollback"]);
    const cached = await repeated(() => timed(stack, ["rollback"]));
    expect(cached.map(({ result }) => result.path)).toEqual(Array<string>(repeats).fill("cached"));
    figures["cached rollback"] = cached.map(({ commandMs, result }) => ({ commandMs, switchMs: result.switchMs }));
    await stack.close();
  },
  minutes(20),
);

test(
  "the gap where a card has no room for two",
  async () => {
    const service = (note: string): string =>
      `embedder: { model: all-MiniLM-L6-v2, port: ${gpuPort}, gpu: ${card}, device: { prefer: cuda, require: cuda }, env: { BED_HOLDS_MIB: "9000", NOTE: "${note}" } }`;
    const stack = await stackOn("gpu-1", await stubGpuImage(), service("0"));
    await timed(stack, ["deploy"]);
    const gaps: number[] = [];
    for (let n = 1; n <= repeats; n += 1) {
      stack.write({ services: [service(String(n))] });
      const watch = new GapWatch(`http://${bed.host("gpu-1").address}:${gpuPort}/health`);
      await timed(stack, ["deploy"]);
      gaps.push(await watch.stop());
    }
    figures["gap in stop-first"] = { ms: gaps, with: "an engine that stands in for a GPU's, MiniLM on the CPU" };
    await stack.close();
  },
  minutes(20),
);

test(
  "what a proxy that takes over another configuration cuts: connections whose request it has not read yet",
  async () => {
    const [host, reloads, clients] = [bed.host("box"), 40, 8];
    const image = await pinned(bed, host, await caddyImage());
    await host.must(["docker", "pull", "--quiet", image], { timeoutMs: minutes(5) });
    const [inside, configured] = ["/etc/caddy/Caddyfile", "--adapter caddyfile --config /etc/caddy/Caddyfile"];
    const started = `mkdir /tmp/caddy && printf ':8080 {\\n respond ok\\n}\\n' >/tmp/caddy/Caddyfile &&
docker run --detach --name cut --publish "$1:8080:8080" --volume /tmp/caddy/Caddyfile:${inside}:ro "$2" caddy run ${configured}`;
    await host.must(["sh", "-c", started, "caddy", host.address, image]);
    const counts = { answered: 0, cut: 0 };
    let over = false;
    const asking = Array.from({ length: clients }, async () => {
      while (!over) counts[(await asked(`http://${host.address}:8080/`)) ? "answered" : "cut"] += 1;
    });
    while (counts.answered === 0) await new Promise((resolve) => setTimeout(resolve, 50));
    counts.cut = 0;
    for (let n = 0; n < reloads; n += 1)
      await host.must(["sh", "-c", `docker exec cut caddy reload --force ${configured}`], { timeoutMs: minutes(1) });
    over = true;
    await Promise.all(asking);
    await host.must(["docker", "rm", "--force", "cut"]);
    figures["cut by reloads"] = {
      ...counts,
      reloads,
      clients,
      with: "a connection for each request, nothing between two requests",
    };
    expect(counts.answered).toBeGreaterThan(reloads);
  },
  minutes(10),
);

/** Whether a request on a connection of its own was answered. */
function asked(url: string): Promise<boolean> {
  return new Promise((resolve) => {
    const sent = request(url, { agent: new Agent({ keepAlive: false }), timeout: 5000 }, (answer) => {
      answer.resume();
      answer.on("close", () => {
        resolve(answer.complete);
      });
    });
    sent.on("error", () => {
      resolve(false);
    });
    sent.end();
  });
}

async function repeated<T>(work: () => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  for (let n = 0; n < repeats; n += 1) results.push(await work());
  return results;
}

/** The longest time between two answers. */
class GapWatch {
  readonly #over = new AbortController();
  readonly #running: Promise<number>;

  constructor(url: string) {
    this.#running = this.#watch(url);
  }

  async #watch(url: string): Promise<number> {
    let [last, longest] = [performance.now(), 0];
    while (!this.#over.signal.aborted) {
      const answered = await fetch(url, { signal: AbortSignal.timeout(2000) }).then(
        ({ status }) => status === 200,
        () => false,
      );
      if (answered) {
        longest = Math.max(longest, performance.now() - last);
        last = performance.now();
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return Math.round(longest);
  }

  stop(): Promise<number> {
    this.#over.abort();
    return this.#running;
  }
}
