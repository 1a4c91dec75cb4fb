/** What compose.yaml and the guide tell people to type who have nothing yet: a model fetched into its volume, an image built, services up. */
import { copyFileSync, cpSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Bed } from "../support/bed/bed.js";
import { ComposeProject } from "../support/bed/compose-project.js";
import type { BedHost } from "../support/bed/host.js";
import { baseImage, buildServices, fetchWheels } from "../support/bed/images.js";
import { PackageIndex } from "../support/bed/package-index.js";
import { ModelHub } from "../support/model-hub.js";
import { repository } from "../support/sandbox.js";

const minutes = 60_000;
const built = "gpuctl-services:by-compose";
let bed: Bed;
let host: BedHost;
let project: ComposeProject;
let hub: ModelHub;
let settings: Record<string, string>;

beforeAll(async () => {
  const base = await baseImage();
  bed = await Bed.start([{ name: "box" }]);
  host = bed.host("box");
  const from = `${bed.registry.address}/${base}`;
  await host.must(["docker", "pull", "--quiet", from], { timeoutMs: 10 * minutes });
  // The packages, which hosts of the bed get through a proxy alone. Building again takes them out of the cache, as at a person's second build.
  await buildServices(bed, host, from, "gpuctl-services:packages");
  for (const part of ["Dockerfile", ".dockerignore", "locks", "src"])
    cpSync(join(repository, "compose/services", part), join(host.root, "srv/gpuctl/services", part), {
      recursive: true,
      filter: (path) => !path.includes("__pycache__"),
    });
  hub = new ModelHub(hubFolder());
  await hub.listen(new URL(bed.proxy.url).hostname);
  settings = { IMAGE: built, BASE_IMAGE: "bed/base:trixie", MODELS_VOLUME: "fetched", FETCH: hub.id, HF_ENDPOINT: hub.url };
  project = new ComposeProject(host);
  await project.install(settings);
}, 40 * minutes);

afterAll(async () => {
  await hub.close();
  await bed.stop();
});

/** A repository as sentence-transformers writes them, which says itself how texts are pooled. */
function hubFolder(): string {
  const folder = join(bed.folder, "repository");
  cpSync(join(repository, "test/golden/models/tiny-xlmr-embedder"), folder, { recursive: true });
  mkdirSync(join(folder, "1_Pooling"));
  const pooling = { word_embedding_dimension: 32, pooling_mode_cls_token: true, pooling_mode_mean_tokens: false };
  writeFileSync(join(folder, "1_Pooling/config.json"), JSON.stringify(pooling));
  const kinds = ["Transformer", "Pooling", "Normalize"];
  const modules = kinds.map((kind, idx) => ({
    idx,
    name: String(idx),
    path: idx === 0 ? "" : `${idx}_${kind}`,
    type: `sentence_transformers.models.${kind}`,
  }));
  writeFileSync(join(folder, "modules.json"), JSON.stringify(modules));
  return folder;
}

test(
  "the image is built when it is first wanted, and fetches a model from the hub into the volume",
  async () => {
    const { code, stdout, stderr } = await project.compose(["--profile", "fetch", "run", "--rm", "fetch"], [], {
      timeoutMs: 10 * minutes,
    });
    expect(code, stderr).toBe(0);
    // Beside it stands what Compose says of the build.
    const directory = /"directory": ?"([^"]+)"/.exec(stdout)?.[1] ?? stdout;
    expect(directory).toBe(`/models/${hub.id.replace("/", "--")}/${hub.commit}`);
    expect(hub.requests.some(({ path }) => path.endsWith("model.safetensors"))).toBe(true);
    const model = directory.slice("/models/".length);
    await project.install({ ...settings, EMBEDDER_MODEL: model, RERANKER_MODEL: model });
  },
  15 * minutes,
);

test(
  "all three services are built, start and answer by one command",
  async () => {
    const up = await project.compose(["up", "--build", "--detach", "--wait"], [], { timeoutMs: 10 * minutes });
    expect(up.code, up.stderr).toBe(0);
    const embedded = await project.request(8001, "/embed", { inputs: ["a wombat"] });
    expect(embedded.status).toBe(200);
    const item = { id: "a", text: "wombats dig burrows" };
    expect((await project.request(8003, "/api/v1/vector-store/add", { items: [item] })).status).toBe(200);
    const found = await project.request(8003, "/api/v1/vector-store/search", { text: "burrows", k: 1 });
    expect(found).toMatchObject({ status: 200, body: { results: [[{ id: "a" }]] } });
    expect((await project.request(8002, "/health/ready")).status).toBe(200);
    const running = await host.must(["docker", "ps", "--format", "{{.Image}}"]);
    expect(running.trim().split("\n")).toEqual([built, built, built]);
  },
  15 * minutes,
);

test(
  "a package index that is given is the one that is asked",
  async () => {
    const said = await buildServices(bed, host, "bed/base:trixie", "gpuctl-services:elsewhere", [
      "--build-arg",
      "PIP_INDEX_URL=https://packages.invalid/simple/",
    ]).catch(String);
    expect(said).toContain("https://packages.invalid/simple/");
    expect(said).toMatch(/No matching distribution|Could not find a version/);
  },
  10 * minutes,
);

test(
  "everything comes from the package index that is given, by its own certificate and with no other way out",
  async () => {
    const wheels = join(bed.folder, "wheels");
    await fetchWheels(bed, host, wheels);
    const files = readdirSync(wheels);
    expect(files.length).toBeGreaterThan(20);
    const keys = join(bed.folder, "packages");
    const index = await PackageIndex.start(wheels, keys, new URL(bed.proxy.url).hostname);
    try {
      copyFileSync(join(keys, "server.crt"), join(host.root, "run/packages.crt"));
      // What is left out comes from nowhere: what pip has in the builder's cache it has by other addresses.
      const nowhere = ["HTTPS_PROXY=", "HTTP_PROXY="].flatMap((each) => ["--build-arg", each]);
      const given = [...nowhere, "--add-host", index.host, "--build-arg", `PIP_INDEX_URL=${index.url}`];
      const secrets = ["--secret", "id=ca,src=/run/packages.crt"];
      await buildServices(bed, host, "bed/base:trixie", "gpuctl-services:mirrored", given, secrets);
    } finally {
      await index.close();
    }
    const asked = index.given.filter((path) => path.startsWith("/files/")).map((path) => path.slice("/files/".length));
    expect(new Set(asked)).toEqual(new Set(files));
    const program = ["python", "-c", "import gpuctl_serving, onnxruntime, faiss; print('whole')"];
    expect(await host.must(["docker", "run", "--rm", "gpuctl-services:mirrored", ...program])).toBe("whole\n");
  },
  20 * minutes,
);
