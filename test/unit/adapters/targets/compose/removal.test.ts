import { utimesSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { pruneModels, removeModels } from "../../../../../cli/src/adapters/targets/compose/removal.js";
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

describe("models of a host on which an environment goes on", () => {
  let host: ScriptedHost;
  let lease: Lease;
  const line = ({ id, revision, manifest }: typeof bgeM3, volume: string): string => `${volume} ${manifest} ${id}@${revision}\n`;
  const [kept, idle] = [modelVolume(bgeM3), modelVolume(rerankerModel)];
  const name = `${rerankerModel.id}@${rerankerModel.revision}`;

  beforeEach(() => {
    host = new ScriptedHost();
    lease = host.takeLease();
    host.program("du", "printf '5000\\t/nowhere\\n'");
    host.file("volume/model.onnx", "");
    const old = new Date(Date.now() - 7_200_000);
    for (const path of ["volume/model.onnx", "volume"]) utimesSync(join(host.directory, path), old, old);
    host.replies([
      { to: "volume\\ ls*", stdout: line(bgeM3, kept) + line(rerankerModel, idle) },
      { to: "volume\\ inspect*", stdout: `${host.directory}/volume\n` },
    ]);
  });
  afterEach(() => host.dispose());

  it("go when nothing names them, and stay when they are kept", async () => {
    expect(await pruneModels(host.commands, [bgeM3], lease)).toEqual({
      removed: [{ what: `model ${name}`, bytes: 5000 }],
      kept: [],
    });
    expect(host.asked().filter((asked) => asked.startsWith("docker volume rm"))).toEqual([`docker volume rm ${idle}`]);
  });

  it("stay when a record of their own names them that nobody could read", async () => {
    const record = `data/shop/prod/releases/r1-00000001.json`;
    host.file(record, `{"model": "${rerankerModel.manifest}", cut off`);
    expect((await pruneModels(host.commands, [bgeM3], lease)).kept).toEqual([
      `model ${name}: ${host.directory}/${record} names it`,
    ]);
  });

  it("stay for an hour after they came, when a deploy may be about to name them", async () => {
    host.file("volume/tokenizer.json", "");
    const { removed, kept: stays } = await pruneModels(host.commands, [bgeM3], lease);
    expect([removed, stays]).toEqual([[], [expect.stringMatching(/within the last hour/)]]);
  });
});
