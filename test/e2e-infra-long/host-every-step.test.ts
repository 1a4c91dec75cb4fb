/** The script that prepares hosts, killed after the work of every single step of one preparation. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { BareHost, values } from "../support/host-bed/bare-host.js";

let box: BareHost;

beforeAll(async () => {
  box = await BareHost.start();
}, 900_000);

afterAll(() => box.stop());

/** Steps that change something on a bare host, in the order in which they run. */
const changing = [
  "files",
  "tools",
  "user",
  "docker-repository",
  "docker-settings",
  "docker",
  "driver",
  "toolkit-repository",
  "toolkit",
  "hold",
  "persistence",
  "ufw",
  "published",
  "units",
  "module",
  "devices",
];

test("each run goes on where the one before was killed, and the last has nothing left to do", async () => {
  const guarded = values({ GPUCTL_SERVICE_PORTS: "8001", GPUCTL_APP_ADDRESSES: "10.0.0.0/8" });
  await box.fresh();
  for (const step of changing) {
    box.killWhen(`\${step:-} == ${step} && $BASH_COMMAND == "log end \\"\\$outcome\\""*`);
    const { code, changed, lines } = await box.prepare(guarded, ["-"], BareHost.killing);
    expect({ step, ended: code !== 0 && code !== 1, last: lines.at(-1)?.step }).toEqual({ step, ended: true, last: step });
    expect(changed, step).toEqual([]);
  }
  expect(await box.prepare(guarded)).toMatchObject({ code: 0, changed: [] });
  expect(box.result().state).toBe("prepared");
});
