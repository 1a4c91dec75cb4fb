import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { DeviceWitness } from "../../../../../cli/src/adapters/targets/compose/device-witness.js";
import { ScriptedHost } from "./scripted-host.js";

const card = "GPU-8a56d2c4";
const container = "gpuctl_shop_prod_embedder-a";
const top = { to: `"top ${container} -eo pid"`, stdout: "PID\n41253\n41260\n" };

describe("what is seen of an instance's GPU on its node", () => {
  let host: ScriptedHost;
  let witness: DeviceWitness;

  beforeEach(() => {
    host = new ScriptedHost();
    witness = new DeviceWitness(host.commands);
    host.replies([top]);
  });
  afterEach(() => host.dispose());

  const gpus = (used: string, apps: string): void => {
    host.program("nvidia-smi", `case $1 in --query-gpu=*) printf '${used}' ;; *) printf '${apps}' ;; esac`);
  };

  it("is memory and processes before it was started and now, and the pids of its container", async () => {
    gpus(`GPU-0, 9\\n${card}, 1300\\n`, `${card}, 900, 1200\\n`);
    await witness.before("embedder-r1-0-a", [card]);
    gpus(`GPU-0, 9\\n${card}, 3700\\n`, `${card}, 900, 1200\\n${card}, 41260, 2400\\n`);
    expect(await witness.now("embedder-r1-0-a", [card], container)).toEqual({
      reserved: [card],
      pids: [41253, 41260],
      apps: {
        before: [{ uuid: card, pid: 900, usedMiB: 1200 }],
        during: [
          { uuid: card, pid: 900, usedMiB: 1200 },
          { uuid: card, pid: 41260, usedMiB: 2400 },
        ],
      },
      used: { before: 1300, during: 3700 },
      neighbours: [],
    });
  });

  it("has nothing before where the instance ran already, and names who else was started on the same GPU", async () => {
    gpus(`${card}, 3700\\n`, "");
    await witness.before("reranker-r1-0-a", [card]);
    await witness.before("index-r1-0-a", ["GPU-0"]);
    expect(await witness.now("embedder-r1-0-a", [card], container)).toMatchObject({
      apps: { before: null, during: [] },
      used: { before: null, during: 3700 },
      neighbours: ["reranker-r1-0-a"],
    });
  });

  it("is told apart from what was before any of those who were started on it", async () => {
    gpus(`${card}, 3\\n`, "");
    await witness.before("embedder-r1-0-a", [card]);
    gpus(`${card}, 900\\n`, "");
    await witness.before("reranker-r1-0-a", [card]);
    expect(await witness.now("reranker-r1-0-a", [card], container)).toMatchObject({
      used: { before: 3, during: 900 },
      neighbours: ["embedder-r1-0-a"],
    });
  });

  it("is the card's memory for a MIG instance, under whose own name nothing is listed", async () => {
    gpus(`${card}, 3700\\n`, `${card}, 41260, 2400\\n`);
    const sight = await witness.now("embedder-r1-0-a", ["MIG-1", card], container);
    expect(sight).toMatchObject({ reserved: ["MIG-1", card], used: { during: 3700 } });
  });

  it("knows nothing of what does not answer, and says so", async () => {
    gpus(`${card}, [N/A]\\n`, "");
    host.replies([{ ...top, code: 1 }]);
    const quiet = await witness.now("embedder-r1-0-a", [card], container);
    expect([quiet.pids, quiet.used.during, quiet.apps.during]).toEqual([null, null, []]);
    host.program("nvidia-smi", "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18");
    const broken = await witness.now("embedder-r1-0-a", [card], container);
    expect([broken.used.during, broken.apps.during]).toEqual([null, null]);
  });
});
