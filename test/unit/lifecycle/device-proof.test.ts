import { describe, expect, test } from "vitest";
import { deploy } from "../../../cli/src/app/deploy.js";
import { CandidateFailed } from "../../../cli/src/domain/errors.js";
import type { DeviceSight } from "../../../cli/src/domain/compose/device-evidence.js";
import type { Device, InstanceId } from "../../../cli/src/domain/names.js";
import { ms } from "../../../cli/src/domain/units.js";
import type { HttpRequest, HttpResponse, InstanceHealth } from "../../../cli/src/ports.js";
import { Environment } from "../../fakes/environment.js";
import { InMemoryDriver } from "../../fakes/in-memory-driver.js";
import { current, failureOf } from "../../support/lifecycle.js";

const card = "GPU-8a56d2c4";

/** What its process holds of the card it was given, MiB. */
const holding = (usedMiB: number, uuid = card): DeviceSight => ({
  reserved: [card],
  pids: [41253],
  apps: { before: [], during: usedMiB === 0 ? [] : [{ uuid, pid: 41253, usedMiB }] },
  used: { before: 3, during: 3 + (uuid === card ? usedMiB : 0) },
  neighbours: [],
});

/** Instances that say on which device they are, and a target that sees what they hold of it. */
class SeenFromOutside extends InMemoryDriver {
  says: Device = "cuda";
  sight: DeviceSight | null = holding(2400);
  /** Proofs that were taken, and how many the next look lasts. */
  proofs = 0;
  looksFor = 1;

  override async health(id: InstanceId): Promise<InstanceHealth> {
    const health = await super.health(id);
    return health.device === null ? health : { ...health, device: this.says };
  }

  override async request(id: InstanceId, request: HttpRequest): Promise<HttpResponse> {
    const answer = await super.request(id, request);
    if (request.path !== "/private/proof") return answer;
    this.proofs += 1;
    return { ...answer, body: { ...(answer.body as object), device: this.says, allocatedBytes: 1024 * 1024 * 400 } };
  }

  async deviceSight({ id }: { id: InstanceId }): Promise<DeviceSight | null> {
    while (this.proofs < this.looksFor) await Promise.resolve();
    const neighbours = [...this.machine.instances.keys()].filter((other) => other !== id);
    return this.sight === null ? null : { ...this.sight, neighbours };
  }
}

function world(
  changes: Partial<SeenFromOutside> = {},
  device: Partial<Environment["config"]["services"]["embedder"]> = {},
  services: readonly ("embedder" | "reranker")[] = ["embedder"],
) {
  const environment = new Environment(services);
  for (const service of services) Object.assign(environment.service(service), device);
  const driver = Object.assign(new SeenFromOutside(environment.machine, environment.clock), changes);
  const run = () => deploy({ ...environment.cli().ctx, driver }, { service: undefined, lockWait: ms(0) });
  return { environment, driver, run };
}

const onCuda = { device: { prefer: "cuda", require: "cuda", proof: "self" } } as const;

describe("a proof that a target can look at from outside", () => {
  test("is recorded with the level that was reached, and with the memory of the GPU as the peak", async () => {
    const { environment, run } = world({}, onCuda);
    await run();
    const record = current(environment);
    expect(record?.services.embedder).toMatchObject({ proof: { device: "cuda", level: "process" }, peakMiB: 2400 });
    expect(record?.gates.find(({ gate }) => gate === "device-proof")?.detail).toMatch(
      /^cuda \(.*\), level process: pid 41253 of its container holds 2400 MiB on GPU-8a56d2c4$/,
    );
  });

  test("is asked for again until the look has ended, so that it falls into an inference", async () => {
    const { driver, run } = world({ looksFor: 3 }, onCuda);
    await run();
    expect(driver.proofs).toBeGreaterThanOrEqual(3);
  });

  test.each([
    ["nothing", holding(0), /device-proof gate failed: not on GPU: memory on GPU-8a56d2c4 rose by 0 MiB/],
    ["memory of another GPU", holding(2400, "GPU-0"), /not on its GPU: pid 41253 of its container works on GPU-0/],
  ])("fails the candidate that says cuda and holds %s", async (_, sight, reason) => {
    const { environment, run } = world({ sight }, { device: { ...onCuda.device, require: null } });
    const failure = await failureOf(run());
    expect(failure).toBeInstanceOf(CandidateFailed);
    const [record] = [...environment.releases.records.values()];
    expect(record).toMatchObject({ state: "failed", services: { embedder: { proof: null } } });
    expect(record?.failure).toMatch(reason);
  });

  test("fails below the level that is asked for, and records the one that was reached", async () => {
    const sight = { ...holding(2400), apps: { before: [], during: [] } };
    const { environment, run } = world({ sight }, { device: { ...onCuda.device, proof: "process" } });
    expect(await failureOf(run())).toBeInstanceOf(CandidateFailed);
    const [record] = [...environment.releases.records.values()];
    expect(record?.failure).toMatch(/level vram is reached and process is asked for/);
    expect(record?.gates.at(-1)?.figures).toMatchObject({ level: "vram" });
  });

  test("passes on the CPU where the service may fall back to it, and fails where it may not", async () => {
    const may = world({ says: "cpu", sight: holding(0) }, { device: { ...onCuda.device, require: null } });
    await may.run();
    expect(current(may.environment)?.services.embedder).toMatchObject({ proof: { device: "cpu" }, peakMiB: 300 });
    const mayNot = world({ says: "cpu", sight: holding(0) }, onCuda);
    await failureOf(mayNot.run());
    const [record] = [...mayNot.environment.releases.records.values()];
    expect(record?.failure).toMatch(/not on GPU: the service itself says that it computes on cpu/);
  });

  test("is the service's own word where it was given no GPU", async () => {
    const { environment, run } = world({ says: "cpu", sight: null });
    await run();
    expect(current(environment)?.services.embedder?.proof).toEqual({ device: "cpu", level: "self" });
  });

  test.each([
    ["vram", 1400],
    ["self", 900],
  ])(
    "of two on one card whose processes nobody lists is %s when %s MiB rose: each says how much it holds",
    async (level, rose) => {
      const sight = { ...holding(rose), apps: { before: [], during: [] } };
      const { environment, run } = world({ sight }, onCuda, ["embedder", "reranker"]);
      await run();
      const proof = { device: "cuda", level };
      expect(current(environment)?.services).toMatchObject({ embedder: { proof, peakMiB: null }, reranker: { proof } });
    },
  );
});
