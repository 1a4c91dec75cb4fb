import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startSteadyLoad } from "../../scripts/steady-load.mjs";
import { faultyWheel } from "../support/faulty-wheel.js";
import { Sandbox } from "../support/sandbox.js";
import { servingPid, status } from "../support/serving.js";

/** The fault the candidate has, and what the message must name. The old release has the real wheel and serves throughout. */
const faults = [
  ["exits while loading", "exit-at-load", /exited|ended/i],
  ["hangs while loading", "hang-at-load", /load/i],
  ["answers NaN", "nan", /warm-up|finite|NaN|correctness|proof/i],
  ["answers the wrong dimension", "wrong-dimension", /dimension/i],
  ["passes the gates and fails in the soak", "wrong-answers-after:4s", /soak/i],
] as const;

describe("a candidate that is broken", () => {
  let sandbox: Sandbox;
  let wheel: string;

  beforeAll(async () => {
    sandbox = await Sandbox.create({ services: ["embedder"], soak: "8s", extra: "    load: 15s\n" });
    await sandbox.result(["deploy"]);
    wheel = faultyWheel(sandbox.directory);
  }, 120_000);

  afterAll(async () => {
    await sandbox.close();
  });

  test.each(faults)(
    "that %s: exit 6, the old instance keeps serving without a failed request",
    async (_what, fault, named) => {
      const before = await servingPid(sandbox, "embedder");
      sandbox.writeConfig({
        services: ["embedder"],
        soak: "8s",
        extra: "    load: 15s\n",
        options: { embedder: `env: { FAULTY_ENGINE: "${fault}" }` },
      });
      const load = startSteadyLoad(
        [{ service: "embedder", url: sandbox.url("embedder", "/embed"), body: () => ({ inputs: ["under load"] }) }],
        10,
      );
      const { code, document } = await sandbox.json(["deploy"], { GPUCTL_WHEEL: wheel });
      const { failed } = await load.stop();
      expect(code, JSON.stringify(document)).toBe(6);
      expect(JSON.stringify(document.error)).toMatch(named);
      const { logTail } = (document.error as unknown as { data: { logTail: string[] } }).data;
      expect(logTail.length, "the end of the candidate's log").toBeGreaterThan(0);
      // In the soak the candidate already has the traffic: its wrong answers are what undoes the switch. They are answers, though, not failures.
      expect(failed).toEqual([]);
      expect(await servingPid(sandbox, "embedder")).toBe(before);
      const seen = await status(sandbox);
      expect(seen.release?.state).toBe("good");
      expect(seen.services[0]?.traffic).toBe("open");
      expect((await sandbox.post("embedder", "/embed", { inputs: ["still right"] })).status).toBe(200);
    },
    120_000,
  );
});
