import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readComputeApps, readPids, type ComputeApp } from "../../../cli/src/domain/compose/device-evidence.js";
import { judgeFromOutside, judgeSeenProof, saidToHold, type Evidence } from "../../../cli/src/domain/compose/device-proof.js";
import { proofLevels } from "../../../cli/src/domain/names.js";
import { specFor } from "../../support/records.js";

const card = "GPU-8a56d2c4";
const otherCard = "GPU-00000000";
const own = { device: "cuda", level: "self", providers: ["torch-cuda"], canary: { ok: true } } as const;
const app = (pid: number, usedMiB: number | null, uuid = card): ComputeApp => ({ uuid, pid, usedMiB });

/** An instance on the GPU that was given it, seen in full. */
const seen: Evidence = {
  reserved: [card],
  own,
  pids: [41253, 41260],
  apps: { before: [app(900, 1200)], during: [app(900, 1200), app(41260, 2400)] },
  used: { before: 1300, during: 3700 },
  neighbours: [],
  neighboursMiB: 0,
  expectedMiB: 2300,
  required: "self",
};
const judged = (changes: Partial<Evidence>) => judgeFromOutside({ ...seen, ...changes });
const nobodyListed = { before: [], during: [] };

describe("what is reached", () => {
  test.each<[string, Partial<Evidence>, string]>([
    ["a pid of its container holds the model on its GPU", {}, "proven process"],
    [
      "memory that several of its processes hold together",
      { apps: { before: [], during: [app(41253, 300), app(41260, 1000)] } },
      "proven process",
    ],
    ["WSL2: nobody is listed, memory rose", { apps: nobodyListed }, "proven vram"],
    ["WSL2: listed without memory, memory rose", { apps: { before: null, during: [app(41260, null)] } }, "proven vram"],
    ["Docker Desktop: no cgroups to read", { pids: null }, "proven vram"],
    [
      "no processes and no figures at all",
      { apps: { before: null, during: null }, used: { before: null, during: null } },
      "proven self",
    ],
    [
      "it ran already, so nobody knows the memory before",
      { used: { before: null, during: 3700 }, apps: nobodyListed },
      "proven self",
    ],
    [
      "memory rose where nobody is listed, and another service was started on the same GPU",
      { apps: nobodyListed, neighbours: ["reranker-r1-0-a"], neighboursMiB: null },
      "proven self",
    ],
    [
      "memory rose by what it needs and by what the other one says it holds",
      { apps: nobodyListed, neighbours: ["reranker-r1-0-a"], neighboursMiB: 1200 },
      "proven vram",
    ],
    [
      "memory rose by no more than the other one may hold",
      { apps: nobodyListed, neighbours: ["reranker-r1-0-a"], neighboursMiB: 1300 },
      "proven self",
    ],
    [
      "memory rose more than others took who are listed, one of ours among them",
      { apps: { before: [], during: [app(900, 800), app(41260, null)] }, neighbours: ["reranker-r1-0-a"] },
      "proven vram",
    ],
    ["it ran already and is listed", { used: { before: null, during: 3700 } }, "proven process"],
    ["a MIG instance that is listed under its card", { reserved: ["MIG-1", card] }, "proven process"],
    ["level process asked for, memory seen only", { required: "process", apps: nobodyListed }, "insufficient vram"],
    [
      "level vram asked for, nothing to be seen",
      { required: "vram", pids: null, used: { before: null, during: null } },
      "insufficient self",
    ],
  ])("%s", (_, changes, expected) => {
    const judgement = judged(changes);
    expect(judgement.outcome === "disagreement" ? judgement.detail : `${judgement.outcome} ${judgement.level}`).toBe(expected);
  });
});

describe("what contradicts the service", () => {
  test.each<[string, Partial<Evidence>, RegExp]>([
    [
      "says cuda, holds no memory, and others are listed",
      { apps: { before: [app(900, 1200)], during: [app(900, 1200)] }, used: { before: 1300, during: 1310 } },
      /^not on GPU: memory .* rose by 10 MiB; at least 1150 MiB/,
    ],
    [
      "says cuda, and nothing rose where nobody is listed",
      { apps: nobodyListed, used: { before: 1300, during: 1300 } },
      /^not on GPU/,
    ],
    [
      "what rose is another tenant's",
      { apps: { before: [app(900, 100)], during: [app(900, 2500)] } },
      /^not on GPU: memory .* rose by 0 MiB/,
    ],
    [
      "what rose belongs to a tenant who came meanwhile",
      { apps: { before: [], during: [app(901, 2400)] } },
      /^not on GPU: memory .* rose by 0 MiB/,
    ],
    [
      "a context without a model",
      { apps: { before: [], during: [app(41260, 180)] } },
      /^not on GPU: pid 41260 .* holds 180 MiB .* at least 1150 MiB/,
    ],
    [
      "it works on another card",
      { apps: { before: [], during: [app(41260, 2400, otherCard)] } },
      /^not on its GPU: pid 41260 .* GPU-00000000 and GPU-8a56d2c4 was reserved/,
    ],
    [
      "others are listed, it is not, and no figures tell",
      { used: { before: null, during: null }, apps: { before: null, during: [app(900, 1200)] } },
      /^not on GPU: none of its 2 processes/,
    ],
    [
      "it says itself that it computes on a CPU",
      { own: { ...own, device: "cpu" } },
      /^not on GPU: the service itself says that it computes on cpu$/,
    ],
    [
      "its canary is wrong",
      { own: { ...own, canary: { ok: false, detail: "cosine 0.31" } } },
      /canary answer is wrong: cosine 0.31/,
    ],
  ])("%s", (_, changes, reason) => {
    const judgement = judged(changes);
    expect(judgement.outcome).toBe("disagreement");
    expect(judgement.detail).toMatch(reason);
  });
});

const pid = fc.integer({ min: 1, max: 30 });
const apps = fc.option(
  fc.array(fc.record({ uuid: fc.constantFrom(card, otherCard), pid, usedMiB: fc.option(fc.integer({ min: 0, max: 16_000 })) }), {
    maxLength: 5,
  }),
);
const memory = fc.option(fc.integer({ min: 0, max: 16_000 }));
const evidence: fc.Arbitrary<Evidence> = fc.record({
  reserved: fc.constant<Evidence["reserved"]>([card]),
  own: fc.record({
    device: fc.constantFrom("cuda" as const, "cpu" as const),
    level: fc.constantFrom(...proofLevels),
    providers: fc.constant(["x"]),
    canary: fc.record({ ok: fc.boolean() }),
  }),
  pids: fc.option(fc.uniqueArray(pid, { maxLength: 4 })),
  apps: fc.record({ before: apps, during: apps }),
  used: fc.record({ before: memory, during: memory }),
  neighbours: fc.constantFrom([], ["reranker-r1-0-a"]),
  neighboursMiB: memory,
  expectedMiB: memory,
  required: fc.constantFrom(...proofLevels),
});

test("no word of the service proves what can be seen to be untrue", () => {
  fc.assert(
    fc.property(evidence, (given) => {
      const judgement = judgeFromOutside(given);
      if (!given.own.canary.ok || given.own.device !== "cuda") expect(judgement.outcome).toBe("disagreement");
      const { before, during } = given.used;
      const flat = before !== null && during !== null && during - before < 64;
      const held = (given.apps.during ?? []).some((one) => one.uuid === card && given.pids?.includes(one.pid) === true);
      if (flat && !held) expect(judgement.outcome).toBe("disagreement");
    }),
    { numRuns: 1000 },
  );
});

test("a level is claimed only on what it stands for", () => {
  fc.assert(
    fc.property(evidence, (given) => {
      const judgement = judgeFromOutside(given);
      if (judgement.outcome === "disagreement") return;
      const needed = Math.max(64, Math.round((given.expectedMiB ?? 0) / 2));
      const mine = (given.apps.during ?? []).filter((one) => one.uuid === card && given.pids?.includes(one.pid) === true);
      const held = mine.reduce((sum, { usedMiB }) => sum + (usedMiB ?? 0), 0);
      if (judgement.level === "process") expect(held).toBeGreaterThanOrEqual(needed);
      if (judgement.level === "vram") expect(given.used.during! - given.used.before!).toBeGreaterThanOrEqual(needed);
      expect(judgement.outcome === "proven").toBe(proofLevels.indexOf(judgement.level) >= proofLevels.indexOf(given.required));
    }),
    { numRuns: 1000 },
  );
});

test("asking for more never turns a refusal into a proof", () => {
  fc.assert(
    fc.property(evidence, (given) => {
      const outcomes = proofLevels.map((required) => judgeFromOutside({ ...given, required }).outcome === "proven");
      expect(outcomes).toEqual([...outcomes].sort((a, b) => Number(b) - Number(a)));
    }),
  );
});

describe("what an instance holds of its GPU", () => {
  const held = (changes: Partial<Evidence>): number | null | undefined =>
    judgeSeenProof(specFor(), own, { ...seen, ...changes }, { expectedMiB: 100, neighboursMiB: 0 }).heldMiB;

  test.each<[string, Partial<Evidence>, number | null]>([
    ["its own processes' memory, whatever others took", { used: { before: 1300, during: 9000 } }, 2400],
    [
      "what rose and is nobody else's, where its own is not told",
      { apps: { before: [], during: [app(900, 300), app(41260, null)] } },
      2100,
    ],
    ["not known for one that ran already and is not listed", { apps: nobodyListed, used: { before: null, during: 3700 } }, null],
    ["not known where another service was started on the GPU too", { apps: nobodyListed, neighbours: ["index-r1-0-a"] }, null],
  ])("is %s", (_, changes, expected) => {
    expect(held(changes)).toBe(expected);
  });

  test("is not asked of one that computes on its CPU", () => {
    expect(judgeSeenProof(specFor(), { ...own, device: "cpu" }, seen, seen).heldMiB).toBeUndefined();
  });
});

describe("what an instance says it holds", () => {
  test.each([
    [{ device: "cuda", allocatedBytes: 536_870_912 }, 1112],
    [{ device: "cpu", allocatedBytes: 536_870_912 }, 0],
    [{ device: "cuda" }, null],
    [{ device: "cpu", replica: { state: "searching", device: "cuda" } }, null],
    [{ device: "cpu", replica: { state: "waiting", device: "cuda" } }, null],
    [{ device: "cpu", replica: { state: "starting", device: null } }, null],
    [{ device: "cpu", replica: { state: "failed", device: null } }, null],
    [{ device: "cpu", replica: { state: "waiting", device: null } }, 0],
    [{ device: "cpu", replica: { state: "off", device: null } }, 0],
    [{ detail: "not found" }, null],
    [null, null],
  ])("%j: %s MiB at most, its context with it", (answer, expected) => {
    expect(saidToHold(answer)).toBe(expected);
  });
});

describe("what nvidia-smi and the cgroup say", () => {
  test("processes, with and without memory, and lines without a pid", () => {
    const csv = `${card}, 41260, 2400\r\nGPU-1, 12, [N/A]\nMIG-7, 13, 5\nGPU-2, [Insufficient Permissions], 9\nNo devices were found\n`;
    expect(readComputeApps(csv)).toEqual([app(41260, 2400), app(12, null, "GPU-1"), app(13, 5, "MIG-7")]);
    expect(readComputeApps("")).toEqual([]);
  });

  test("pids of cgroup.procs and of docker top", () => {
    expect(readPids("41260\n41253\n41260\n")).toEqual([41253, 41260]);
    expect(readPids("PID\n41253\n0\n")).toEqual([41253]);
  });

  test("nothing that comes instead makes it throw", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        for (const one of readComputeApps(text)) expect(one.pid).toBeGreaterThan(0);
        for (const one of readPids(text)) expect(one).toBeGreaterThan(0);
      }),
    );
  });
});
