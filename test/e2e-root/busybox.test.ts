/** State on a small host, which has BusyBox's tools and no others: no flock, no options of GNU. Needs Debian's busybox. */
import { describe, expect, test } from "vitest";
import { busyboxTools } from "../contract/state/remote-environment.js";
import { worldOn } from "../contract/state/remote-world.js";
import { describeState } from "../contract/state/state-suite.js";
import { temporaryDirectories } from "../support/temporary.js";
import { expectGuarded, expectOneLeaseOfMany } from "../unit/adapters/remote-state/on-any-tools.js";
import { World } from "../unit/adapters/remote-state/world.js";

const temporary = temporaryDirectories();

describeState("on one host with BusyBox alone", "lease", () => {
  const folder = temporary();
  return worldOn(folder, ["gpu-1"], busyboxTools(folder));
});

describe("a host with BusyBox alone", () => {
  test("gives one lease when many ask at the same moment", async () => {
    const folder = temporary();
    await expectOneLeaseOfMany(new World(folder, ["gpu-1"], { PATH: busyboxTools(folder) }));
  });

  test("runs a guarded script only while its lease is the newest, of this boot, and held", async () => {
    expect.hasAssertions();
    await expectGuarded(["busybox", "sh"], new World(temporary()));
  });
});
