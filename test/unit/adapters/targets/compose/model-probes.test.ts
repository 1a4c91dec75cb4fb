import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { ModelProbes } from "../../../../../cli/src/adapters/targets/compose/model-probes.js";
import { sha256 } from "../../../../../cli/src/domain/canonical.js";
import { modelVolume } from "../../../../../cli/src/domain/compose/names.js";
import { bgeM3 } from "../../../compose/nodes.js";
import { ScriptedHost } from "./scripted-host.js";

const probes = { origin: "self-recorded", kind: "embedder", items: [] };
const manifest = JSON.stringify({ probes });
const model = { ...bgeM3, manifest: sha256(manifest) };

let host: ScriptedHost;
beforeEach(() => {
  host = new ScriptedHost();
  const volume = join(host.directory, "volume");
  mkdirSync(volume);
  host.replies([{ to: `*${modelVolume(model)}*`, stdout: `${volume}\n` }]);
});
afterEach(() => host.dispose());

const write = (text: string): void => writeFileSync(join(host.directory, "volume/manifest.json"), text);

it("takes a model's probes from its volume, once", async () => {
  write(manifest);
  const known = new ModelProbes(host.commands);
  expect(await known.of(model)).toEqual(probes);
  expect(await known.of(model)).toEqual(probes);
  expect(host.asked()).toHaveLength(1);
  expect(host.changes()).toEqual([]);
});

it("believes none that are not what the release names, and looks again", async () => {
  const known = new ModelProbes(host.commands);
  expect(await known.of(model)).toBeNull();
  write(`${manifest} `);
  expect(await known.of(model)).toBeNull();
  write(manifest);
  expect(await known.of(model)).toEqual(probes);
});
