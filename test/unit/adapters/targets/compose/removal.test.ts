import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { removeModels } from "../../../../../cli/src/adapters/targets/compose/removal.js";
import { modelVolume } from "../../../../../cli/src/domain/compose/names.js";
import type { Lease } from "../../../../../cli/src/ports.js";
import { bgeM3, rerankerModel } from "../../../compose/nodes.js";
import { ScriptedHost } from "./scripted-host.js";

describe("models that are to leave a host", () => {
  let host: ScriptedHost;
  let lease: Lease;
  const volume = modelVolume(bgeM3);
  const there = { to: "volume\\ inspect*", stdout: "/nowhere\n" };

  beforeEach(() => {
    host = new ScriptedHost();
    lease = host.takeLease();
    host.program("du", "printf '5000\\t/nowhere\\n'");
  });
  afterEach(() => host.dispose());

  it("go, each volume once, with the bytes that they had", async () => {
    host.replies([there]);
    expect(await removeModels(host.commands, [bgeM3, rerankerModel, bgeM3], lease)).toEqual({
      removed: [
        { what: "model bge-m3", bytes: 5000 },
        { what: "model bge-reranker-v2-m3", bytes: 5000 },
      ],
      kept: [],
    });
    expect(host.changes()).toEqual([volume, modelVolume(rerankerModel)].map((name) => `docker volume rm ${name}`));
  });

  it("stay where a container has them", async () => {
    const said = `Error response from daemon: remove ${volume}: volume is in use - [abc]\n`;
    host.replies([there, { to: "volume\\ rm*", stderr: said, code: 1 }]);
    const kept = ["model bge-m3: a container has it"];
    expect(await removeModels(host.commands, [bgeM3], lease)).toEqual({ removed: [], kept });
  });

  it("stay where a release of another environment names them, not one of their own", async () => {
    host.replies([there]);
    const record = JSON.stringify({ model: { manifest: bgeM3.manifest } });
    host.file("data/shop/prod/releases/r1-00000001.json", record);
    host.file("data/other/prod/releases/r1-00000001.json", JSON.stringify({ model: { manifest: "another" } }));
    expect((await removeModels(host.commands, [bgeM3], lease)).removed).toHaveLength(1);
    host.file("data/other/prod/releases/r2-00000002.json", record);
    expect(await removeModels(host.commands, [bgeM3], lease)).toEqual({
      removed: [],
      kept: [`model bge-m3: ${host.directory}/data/other/prod/releases/r2-00000002.json names it`],
    });
  });

  it("are not missed where there are none, and a failure of Docker is told", async () => {
    host.replies([{ to: "volume\\ inspect*", stderr: "Error response from daemon: get x: no such volume\n", code: 1 }]);
    expect(await removeModels(host.commands, [bgeM3], lease)).toEqual({ removed: [], kept: [] });
    host.replies([there, { to: "volume\\ rm*", stderr: "Error response from daemon: input/output error\n", code: 1 }]);
    await expect(removeModels(host.commands, [bgeM3], lease)).rejects.toThrow("the models could not be removed on gpu-1");
  });
});
