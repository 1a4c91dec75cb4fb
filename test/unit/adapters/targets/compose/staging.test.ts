import { createHash } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { gzipSync } from "node:zlib";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { imageRoom } from "../../../../../cli/src/adapters/targets/compose/image-room.js";
import { hasImage, removeImage, stageImage } from "../../../../../cli/src/adapters/targets/compose/images.js";
import type { ImagePart } from "../../../../../cli/src/adapters/images/saved-images.js";
import { presentLayers } from "../../../../../cli/src/adapters/targets/compose/image-delivery.js";
import { hasModels, stageVolumes } from "../../../../../cli/src/adapters/targets/compose/model-volumes.js";
import type { NodeFetching } from "../../../../../cli/src/adapters/targets/compose/node-fetching.js";
import { modelVolume } from "../../../../../cli/src/domain/compose/names.js";
import type { ModelRef } from "../../../../../cli/src/domain/release.js";
import type { ModelStore, ProgressEvent, StoredModel } from "../../../../../cli/src/ports.js";
import { bgeM3, instance, serviceImage } from "../../../compose/nodes.js";
import { ScriptedHost } from "./scripted-host.js";

const never = new AbortController().signal;
const sha256Of = (file: string): string => createHash("sha256").update(readFileSync(file)).digest("hex");
const sha = (text: string): string => createHash("sha256").update(text).digest("hex");

let host: ScriptedHost;
let events: ProgressEvent[];
const progress = { emit: (event: ProgressEvent): void => void events.push(event) };
beforeEach(() => {
  host = new ScriptedHost();
  events = [];
});
afterEach(() => host.dispose());

describe("images on a host", () => {
  const missing = { to: "image\\ inspect*", stderr: "Error response from daemon: No such image: x\n", code: 1 };

  it("are looked for by digest, and not fetched when they are there", async () => {
    const said = await stageImage(host.commands, { reference: serviceImage, local: null }, progress, never);
    expect(said).toBe("gpuctl/services@sha256:111111111111 is on gpu-1");
    expect(host.asked()).toEqual([`docker image inspect --format {{.Id}} ${serviceImage}`]);
  });

  it("are pulled by digest, layer by layer", async () => {
    host.replies([
      missing,
      { to: "pull*", stdout: "aaaaaaaaaaaa: Pulling fs layer\nbbbbbbbbbbbb: Already exists\naaaaaaaaaaaa: Pull complete\n" },
    ]);
    const staged = stageImage(host.commands, { reference: serviceImage, local: null }, progress, never);
    await expect(staged).rejects.toThrow(`${serviceImage} is not on gpu-1, although it was delivered`);
    expect(host.changes()).toEqual([`docker pull ${serviceImage}`]);
    expect(events.at(-1)).toMatchObject({ kind: "amount", done: 2, total: 2, unit: "layers" });
  });

  it("are pulled byte by byte where the registry told a preflight how long the layers are", async () => {
    const layers = [
      { digest: `sha256:${"a".repeat(64)}`, size: 1000 },
      { digest: `sha256:${"b".repeat(64)}`, size: 24 },
    ];
    host.replies([
      missing,
      { to: "manifest\\ inspect*", stdout: JSON.stringify({ layers }) },
      { to: "pull*", stdout: "bbbbbbbbbbbb: Already exists\naaaaaaaaaaaa: Download complete\naaaaaaaaaaaa: Pull complete\n" },
    ]);
    const image = { reference: serviceImage, local: null };
    await imageRoom(host.commands, image, "x86_64");
    await stageImage(host.commands, image, progress, never).catch(() => undefined);
    const name = "gpuctl/services@sha256:111111111111 on gpu-1";
    expect(events).toEqual([
      { kind: "amount", label: `pulling ${name}`, done: 24, total: 1024, unit: "bytes" },
      { kind: "amount", label: `pulling ${name}`, done: 1024, total: 1024, unit: "bytes" },
      { kind: "amount", label: `unpacking ${name}`, done: 1024, total: 1024, unit: "bytes" },
    ]);
  });

  it("are pulled with the account that gpuctl.yaml names, whose password is in no argument and stays nowhere", async () => {
    const config = join(host.directory, "config");
    host.program(
      "docker",
      `printf '%s %s\\n' "docker $*" "$DOCKER_CONFIG" >>'${host.directory}/asked'
case $1 in login) cat >"$DOCKER_CONFIG/config.json"; printf %s "$DOCKER_CONFIG" >'${config}' ;; image) echo "No such image" >&2; exit 1 ;; esac`,
    );
    const login = { server: "registry.example", username: "ci", password: async () => "wombat" };
    const staged = stageImage(host.commands, { reference: serviceImage, local: null, login }, progress, never);
    await expect(staged).rejects.toThrow("although it was delivered");
    const noted = readFileSync(config, "utf8");
    expect(host.changes()).toEqual([
      `docker login --username ci --password-stdin registry.example ${noted}`,
      `docker pull ${serviceImage} ${noted}`,
    ]);
    expect(existsSync(noted)).toBe(false);
  });

  it("are not pulled when the registry refuses that account, and what it said is told", async () => {
    host.replies([
      { to: "image\\ inspect*", stderr: "No such image: x\n", code: 1 },
      { to: "login*", stderr: "unauthorized: no\n", code: 1 },
    ]);
    const login = { server: "registry.example", username: "ci", password: async () => "wombat" };
    await expect(
      stageImage(host.commands, { reference: serviceImage, local: null, login }, progress, never),
    ).rejects.toMatchObject({
      exit: "preflightRefused",
      because: "unauthorized: no",
      nextSteps: [
        "registry: { username: NAME, password: { env: VARIABLE } } of the environment in gpuctl.yaml",
        expect.anything(),
      ],
    });
    expect(host.asked().some((line) => line.startsWith("docker pull"))).toBe(false);
  });

  it("are sent and loaded where there is no registry, without the layers that are there, and leave nothing behind", async () => {
    const part = (path: string, layer: number | null): ImagePart => {
      const file = join(host.directory, `${path}.gz`);
      writeFileSync(file, gzipSync(path));
      return { path, file, sha256: sha256Of(file), bytes: statSync(file).size, layer };
    };
    const parts = [part("manifest.json", null), part("base.tar", 0), part("code.tar", 1)];
    const saved = { id: `sha256:${"4".repeat(64)}`, parts, layers: ["sha256:base", "sha256:code"] };
    const local = { look: async () => ({ bytes: 6, layers: [] }), open: async () => saved };
    const layers = '["sha256:base","sha256:old"]\n';
    host.replies([{ to: "image\\ ls*", stdout: "one\n" }, { to: "*json*", stdout: layers }, missing]);
    await stageImage(host.commands, { reference: saved.id, local }, progress, never).catch(() => undefined);
    expect(host.asked()).toContain("docker load --quiet");
    expect(() => statSync(join(host.directory, "data/.incoming", "4".repeat(24)))).toThrow();
    const sent = parts.filter(({ layer }) => layer !== 0).reduce((sum, { bytes }) => sum + bytes, 0);
    expect(events.at(-1)).toMatchObject({ kind: "amount", done: sent, total: sent, unit: "bytes" });
    expect(presentLayers(["a", "b", "c"], [["a", "c"], ["a", "b", "x"], []])).toBe(2);
  });

  it("that somebody began to send and gave up are removed after a week, those that may go on are not", async () => {
    const saved = { id: `sha256:${"4".repeat(64)}`, parts: [], layers: [] };
    const local = { look: async () => ({ bytes: 6, layers: [] }), open: async () => saved };
    for (const [name, days] of [
      ["given-up", 8],
      ["younger", 6],
    ] as const) {
      host.file(`data/.incoming/${name}/part.gz`, "x");
      const then = Date.now() / 1000 - days * 86_400;
      for (const path of [`${name}/part.gz`, name]) utimesSync(join(host.directory, "data/.incoming", path), then, then);
    }
    host.file("data/.incoming/continued/part.gz", "x");
    utimesSync(join(host.directory, "data/.incoming/continued"), 1, 1);
    host.replies([missing]);
    await stageImage(host.commands, { reference: saved.id, local }, progress, never).catch(() => undefined);
    expect(readdirSync(join(host.directory, "data/.incoming")).sort()).toEqual(["continued", "younger"]);
  });

  it("are not missing when Docker cannot be asked", async () => {
    host.replies([
      { to: "*", stderr: "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?\n", code: 1 },
    ]);
    await expect(hasImage(host.commands, serviceImage)).rejects.toThrow("Docker on gpu-1 does not answer");
  });

  it("are removed unless something still uses them", async () => {
    const lease = host.takeLease();
    host.replies([{ to: "image\\ inspect*", stdout: "1234\n" }]);
    expect(await removeImage(host.commands, serviceImage, lease)).toBe(1234);
    host.replies([
      { to: "image\\ inspect*", stdout: "1234\n" },
      { to: "image\\ rm*", stderr: "conflict\n", code: 1 },
    ]);
    expect(await removeImage(host.commands, serviceImage, lease)).toBeNull();
  });
});

describe("models on a host", () => {
  const files = { "model.safetensors": "weights", "tokenizer.json": "{}", "manifest.json": "{manifest}" } as const;
  const ref: ModelRef = {
    ...bgeM3,
    manifest: sha(files["manifest.json"]),
    files: { "model.safetensors": sha(files["model.safetensors"]), "tokenizer.json": sha(files["tokenizer.json"]) },
  };
  const { spec } = instance("embedder", "a", { model: ref });
  let volume: string;
  let stored: string;
  let models: Pick<ModelStore, "find">;
  let fetching: NodeFetching | null;

  beforeEach(() => {
    volume = join(host.directory, "volume");
    stored = join(host.directory, "store");
    mkdirSync(stored);
    for (const [name, text] of Object.entries(files)) writeFileSync(join(stored, name), text);
    models = { find: async () => ({ directory: stored }) as StoredModel };
    fetching = null;
  });
  const stage = (): Promise<string> => stageVolumes({ commands: host.commands, models, progress, fetching }, spec, never);
  const made = (): void => {
    mkdirSync(volume, { recursive: true });
    host.replies([{ to: "volume\\ inspect*", stdout: `${volume}\n` }]);
  };

  it("lie in a volume of their own, hashed there, and are sent once", async () => {
    made();
    expect(await hasModels(host.commands, spec)).toBe(false);
    expect(await stage()).toBe(`${ref.id}@${ref.revision}: 3 files sent to gpu-1, hashes verified there`);
    expect(readFileSync(join(volume, "model.safetensors"), "utf8")).toBe("weights");
    expect(await hasModels(host.commands, spec)).toBe(true);
    events = [];
    expect(await stage()).toBe(`${ref.id}@${ref.revision} is on gpu-1`);
    expect(events).toEqual([]);
  });

  it("get their volume made first, named after what it holds", async () => {
    host.replies([{ to: "volume\\ inspect*", code: 1 }]);
    await stage().catch(() => undefined);
    expect(host.changes()).toEqual([
      `docker volume create --label dev.gpuctl.model=${ref.id}@${ref.revision} --label dev.gpuctl.manifest=${ref.manifest} ${modelVolume(ref)}`,
    ]);
  });

  it("are drift when a file was touched or is gone, and are mended by the next stage", async () => {
    made();
    await stage();
    utimesSync(join(volume, "tokenizer.json"), 1, 1);
    expect(await hasModels(host.commands, spec)).toBe(false);
    await stage();
    rmSync(join(volume, "model.safetensors"));
    expect(await hasModels(host.commands, spec)).toBe(false);
    await stage();
    expect(await hasModels(host.commands, spec)).toBe(true);
  });

  it("are hashed again when anything but their content may have changed, and sent only when it did", async () => {
    made();
    await stage();
    const file = join(volume, "model.safetensors");
    const { mtime } = statSync(file);
    /** As if the seal were older: the time of the last change counts in seconds. */
    const ageSeal = (): void => {
      const seal = join(volume, ".gpuctl-complete");
      const text = readFileSync(seal, "utf8").replaceAll(/-\d+ (?=\S+$)/gm, "-1 ");
      rmSync(seal);
      writeFileSync(seal, text);
    };
    ageSeal();
    expect(await hasModels(host.commands, spec)).toBe(true);
    expect(await stage()).toBe(`${ref.id}@${ref.revision} is on gpu-1: its files were touched, and have their hashes`);
    expect(await stage()).toBe(`${ref.id}@${ref.revision} is on gpu-1`);
    chmodSync(file, 0o644);
    writeFileSync(file, "wEights");
    utimesSync(file, mtime, mtime);
    ageSeal();
    expect(await stage()).toBe(`${ref.id}@${ref.revision}: 3 files sent to gpu-1, hashes verified there`);
    expect(readFileSync(file, "utf8")).toBe("weights");
  });

  it("name the file that is damaged when nobody can give it again", async () => {
    made();
    await stage();
    chmodSync(join(volume, "tokenizer.json"), 0o644);
    writeFileSync(join(volume, "tokenizer.json"), "[ ]");
    models = { find: async () => null };
    for (let attempt = 0; attempt < 2; attempt += 1)
      await expect(stage()).rejects.toMatchObject({
        message: "the model bge-m3 is not whole on gpu-1 and not in the model store here",
        because: expect.stringContaining("tokenizer.json on gpu-1 is not the file of this release") as string,
      });
  });

  it("are refused when what lies here is not what the release says", async () => {
    made();
    writeFileSync(join(stored, "model.safetensors"), "other weights");
    await expect(stage()).rejects.toThrow("model.safetensors could not be sent on gpu-1");
    expect(await hasModels(host.commands, spec)).toBe(false);
  });

  it("are refused when neither side has them, or the engine hides its volumes", async () => {
    made();
    models = { find: async () => null };
    await expect(stage()).rejects.toThrow("the model bge-m3 is neither on gpu-1 nor in the model store here");
    host.replies([{ to: "volume\\ inspect*", stdout: "/nowhere/at/all\n" }]);
    await expect(stage()).rejects.toThrow("volumes of Docker on gpu-1 cannot be filled");
  });

  describe("that a node fetches itself", () => {
    const token = "hf_never_in_argv";
    const hub: NodeFetching = {
      image: serviceImage,
      sourceOf: () => ({ source: "hub", id: ref.id, revision: "5".repeat(40) }),
      settings: async () => ({ HF_TOKEN: token }),
    };
    /** A container that leaves these files in the folder that it is given, and says this. */
    const container = (fetched: Readonly<Record<string, string>>, says: string, code = 0): void => {
      const folder = `.fetch/${ref.id.replaceAll("/", "--")}/${ref.revision}`;
      const writes = Object.entries(fetched).map(([name, text]) => `printf %s '${text}' >'${folder}/${name}'`);
      const answer = [`mkdir -p '${folder}'`, ...writes, `cat >'${host.directory}/stdin'`, `echo '${says}'`, `exit ${code}`];
      const log = `printf 'docker %s\\n' "$*" >>'${host.directory}/asked'`;
      const cases = [`volume\\ inspect*) echo '${volume}' ;;`, `run*) ${answer.join("; ")} ;;`];
      host.program("docker", [log, 'case "$*" in', ...cases, "esac"].join("\n"));
    };
    beforeEach(() => {
      made();
      fetching = hub;
    });

    it("get their names when their hashes are those of the release; the token goes by stdin alone", async () => {
      const own = { ...files, "manifest.json": "{as this node recorded it}" };
      container(own, '{"event":"progress","label":"download","done":3,"total":7,"unit":"bytes"}');
      expect(await stage()).toBe(`${ref.id}@${ref.revision}: 2 files fetched by gpu-1, hashes verified there`);
      expect(readFileSync(join(volume, "model.safetensors"), "utf8")).toBe("weights");
      expect(readFileSync(join(volume, "manifest.json"), "utf8")).toBe("{manifest}");
      expect(readdirSync(volume)).not.toContain(".fetch");
      expect(await hasModels(host.commands, spec)).toBe(true);
      expect(JSON.parse(readFileSync(join(host.directory, "stdin"), "utf8"))).toEqual({ HF_TOKEN: token });
      expect(host.asked().join("\n")).not.toContain(token);
      expect(events).toContainEqual(expect.objectContaining({ label: "gpu-1 fetches bge-m3: download", done: 3, total: 7 }));
    });

    it("need no copy here when the manifest is the release's own", async () => {
      models = { find: async () => null };
      container(files, "");
      await stage();
      expect(await hasModels(host.commands, spec)).toBe(true);
    });

    it("are refused, and leave nothing, when they became another model", async () => {
      container({ ...files, "model.safetensors": "of another day" }, "");
      await expect(stage()).rejects.toMatchObject({
        message: "the model bge-m3 could not be fetched by gpu-1",
        because: expect.stringContaining("model.safetensors is not the file that the release names") as string,
      });
      expect(readdirSync(volume)).toEqual([]);
    });

    it("name the way without a network when the hub cannot be reached, and keep what came", async () => {
      const said = {
        event: "error",
        message: "bge-m3 cannot be downloaded",
        because: "hub: no route",
        next: "check the network",
      };
      container({ "model.part": "half" }, JSON.stringify(said), 1);
      await expect(stage()).rejects.toMatchObject({
        exit: "preflightRefused",
        because: "bge-m3 cannot be downloaded: hub: no route",
        nextSteps: ["check the network", expect.stringContaining("delivery: copy") as string],
      });
      expect(readdirSync(volume)).toEqual([".fetch"]);
    });

    it("are sent from here when they are not of the hub", async () => {
      fetching = { ...hub, sourceOf: () => null };
      expect(await stage()).toContain("3 files sent to gpu-1");
    });
  });
});
