/** What releases beyond retention leave on a host: nothing, while what serves goes on serving. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { stubGpuImage } from "../support/bed/images.js";
import { Served } from "../support/bed/served.js";
import { pinned } from "../support/bed/stack.js";

const patience = 900_000;
const port = 18_101;
const root = "/var/lib/gpuctl/shop/prod";

/** The services' image with the tests' engines, computed on the CPU. */
let served: Served;

beforeAll(async () => {
  served = await Served.start({ image: stubGpuImage });
}, 1_800_000);

afterAll(async () => {
  await served.stop();
});

/** The image with one more file, under a digest of its own. It is only in the registry afterwards. */
async function imageWith(file: string): Promise<string> {
  const name = `${served.bed.registry.address}/${file}:1`;
  const script = `mkdir /tmp/"$3" && cd /tmp/"$3" && echo "$3" >made && printf 'FROM %s\\nCOPY made /opt/made\\n' "$2" >Dockerfile &&
docker build --quiet --provenance false --tag "$1" . && docker push --quiet "$1" && docker image rm "$1" && rm -rf /tmp/"$3"`;
  await served.host.must(["sh", "-c", script, "image", name, served.images.services, file], { timeoutMs: patience });
  return pinned(served.bed, served.host, `${file}:1`);
}

function configure(image: string, secret: string, retain: number): void {
  const secrets = `secrets: { HF_TOKEN: { command: "echo ${secret}" } }`;
  const services = [`embedder: { model: all-MiniLM-L6-v2, device: cpu, port: ${port}, ${secrets} }`];
  // Long enough warm that the predecessor never ends by itself while this test looks.
  const extra = ["soak: 2s", "keepWarm: 20m", `retain: ${retain}`];
  served.stack.write({ services, images: { ...served.images, services: image }, extra });
}

const sh = (script: string): Promise<string> => served.host.must(["sh", "-c", script]);
const lines = (text: string): readonly string[] => text.split("\n").filter(Boolean);
/** Secret values that lie on the host in clear. */
const secrets = async (): Promise<readonly string[]> => lines(await sh(`awk 1 ${root}/secrets/*/embedder/HF_TOKEN`)).toSorted();
const hasImage = async (image: string): Promise<boolean> =>
  (await served.host.exec(["docker", "image", "inspect", image])).code === 0;
const instances = async (...which: string[]): Promise<readonly string[]> => {
  const format = '{{.Label "dev.gpuctl.instance"}}';
  return lines(await served.host.must(["docker", "ps", ...which, "--format", format]));
};
/** Instances whose container runs. */
const running = (): Promise<readonly string[]> => instances("--filter", "status=running");

let images: readonly string[] = [];

test(
  "three releases with an image and a secret each: what both places and retention keep is there",
  async () => {
    images = [await imageWith("one"), await imageWith("two"), await imageWith("three")];
    for (const [position, image] of images.entries()) {
      configure(image, `value-${String(position + 1)}`, 3);
      await served.stack.result(["deploy", "-e", "prod"]);
    }
    expect(await Promise.all(images.map(hasImage))).toEqual([true, true, true]);
    expect(await secrets()).toEqual(["value-2", "value-3"]);
  },
  patience,
);

test(
  "README.txt's own words start what served, and not its predecessor",
  async () => {
    const [serving] = await served.open();
    const start = /^ {4}(docker compose up --detach --no-deps .*)$/m.exec(await sh(`cat ${root}/README.txt`))?.[1] ?? "";
    await sh(`cd ${root} && docker compose stop`);
    expect(await running()).toEqual([]);
    await sh(`cd ${root} && ${start}`);
    await expect.poll(() => served.answers(), { timeout: 120_000, interval: 1000 }).toBe(true);
    expect(await running()).toEqual([serving]);
  },
  patience,
);

test(
  "images, secrets and files of releases beyond retention leave the host, and no request is lost over it",
  async () => {
    configure(images[2] ?? "", "value-3", 1);
    let removed: readonly string[] = [];
    const failures = await served.failuresDuring(async () => {
      ({ removed } = await served.stack.result<{ removed: readonly string[] }>(["prune", "-e", "prod"]));
    });
    expect(failures).toEqual({});
    for (const image of images.slice(0, 2)) expect(removed.join("\n")).toContain(`image ${image}`);
    expect(await Promise.all(images.map(hasImage))).toEqual([false, false, true]);
    expect(await secrets()).toEqual(["value-3"]);
    const serving = await running();
    expect(await instances("--all")).toEqual(serving);
    expect(lines(await sh(`cd ${root} && ls gates run orders | grep embedder- | sort -u`))).toEqual(serving);
    expect(await served.answers()).toBe(true);
    expect(await served.stack.result(["prune", "-e", "prod"])).toMatchObject({ removed: [] });
  },
  patience,
);

test(
  "a model that no release names any more leaves the host with prune --models, and not while it is new",
  async () => {
    const make = "docker volume create --label dev.gpuctl.model=old/model@1 --label dev.gpuctl.manifest=0123 gpuctl-model_old";
    const folder = (await sh(`docker volume inspect --format '{{.Mountpoint}}' $(${make})`)).trim();
    await sh(`touch ${folder}/model.onnx`);
    const prune = async (): Promise<unknown> => served.stack.result(["prune", "-e", "prod", "--models"]);
    expect(await prune()).toMatchObject({ models: { removed: [], kept: [expect.stringMatching(/old\/model@1.*last hour/)] } });
    await sh(`touch --date '2 hours ago' ${folder}/model.onnx ${folder}`);
    const failures = await served.failuresDuring(async () => {
      expect(await prune()).toMatchObject({ models: { removed: [{ what: "model old/model@1 on one" }], kept: [] } });
    });
    expect(failures).toEqual({});
    expect(lines(await sh("docker volume ls --quiet --filter label=dev.gpuctl.model"))).toHaveLength(1);
  },
  patience,
);

test(
  "destroy keeps the model, and with --models it leaves the host",
  async () => {
    const volumes = async (): Promise<number> =>
      lines(await sh("docker volume ls --quiet --filter label=dev.gpuctl.model")).length;
    const destroy = ["destroy", "-e", "prod", "--confirm", "prod"];
    expect(await served.stack.result(destroy)).not.toHaveProperty("models");
    expect(await volumes()).toBe(1);
    const { models } = await served.stack.result<{ models: object }>([...destroy, "--models"]);
    expect(models).toMatchObject({ removed: [{ what: "model all-MiniLM-L6-v2 on one" }], kept: [] });
    expect(await volumes()).toBe(0);
  },
  patience,
);
