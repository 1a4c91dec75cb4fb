/**
 * Everything that a release can change, on a host that is asked up to 50 times a second (on two shared cores it was some 45): each is
 * a release of its own, and comes back whole.
 */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ReleaseRecord } from "../../cli/src/domain/release.js";
import { stubGpuImage } from "../support/bed/images.js";
import { Served } from "../support/bed/served.js";
import { pinned } from "../support/bed/stack.js";
import { repository } from "../support/sandbox.js";

const patience = 600_000;
const port = 18_101;
const otherModel = "tiny-xlmr-embedder";

/** The services' image with the tests' engines, computed on the CPU. */
let served: Served;
/** The same image with one more file. */
let otherImage: string;

beforeAll(async () => {
  served = await Served.start({ image: stubGpuImage });
  served.stack.write({
    models: [`${otherModel}: { source: path, path: ${join(repository, "test/golden/models", otherModel)}, pooling: cls }`],
    extra: ["soak: 2s"],
  });
  otherImage = await imageWithAnotherFile();
  configure({ model: otherModel });
  const fetched = await served.stack.run(["models", "fetch", "-e", "prod"]);
  if (fetched.code !== 0) throw new Error(fetched.stderr);
  configure({});
  await ran(["deploy"]);
}, 1_800_000);

afterAll(async () => {
  await served.stop();
});

interface Change {
  model?: string;
  settings?: string;
  secret?: string;
  image?: string;
}

function configure(change: Change): void {
  const { image = served.images.services } = change;
  served.stack.write({ services: [embedderLine(change)], images: { ...served.images, services: image } });
}

function embedderLine({ model = "all-MiniLM-L6-v2", settings = "", secret = "first" }: Change): string {
  const secrets = `, secrets: { HF_TOKEN: { command: "echo ${secret}" } }`;
  return `embedder: { model: ${model}, device: cpu, port: ${port}${secrets}${settings} }`;
}

async function imageWithAnotherFile(): Promise<string> {
  const name = `${served.bed.registry.address}/other:1`;
  const script = `mkdir /tmp/other && cd /tmp/other && date >made && printf 'FROM %s\\nCOPY made /opt/made\\n' "$2" >Dockerfile &&
docker build --quiet --provenance false --tag "$1" . && docker push --quiet "$1" && docker image rm "$1" && rm -rf /tmp/other`;
  await served.host.must(["sh", "-c", script, "other", name, served.images.services], { timeoutMs: patience });
  return pinned(served.bed, served.host, "other:1");
}

async function ran(args: readonly string[]): Promise<{ path?: string; outcome?: string }> {
  return served.stack.result([...args, "-e", "prod"]);
}

/** What serves, as its record on the host has it. */
async function serving(): Promise<ReleaseRecord> {
  const id = (await served.status()).release?.id ?? "";
  const text = await served.host.must(["cat", `/var/lib/gpuctl/shop/prod/releases/${id}.json`]);
  return (JSON.parse(text) as { body: { record: ReleaseRecord } }).body.record;
}

const embedderOf = ({ services }: ReleaseRecord): ReleaseRecord["services"]["embedder"] => services.embedder;

const changes: readonly (readonly [string, () => Change, (record: ReleaseRecord) => unknown])[] = [
  [
    "option",
    () => ({ settings: ", options: { cacheEntries: 77 }" }),
    (record) => embedderOf(record)?.spec.env["GPUCTL_CACHE_ENTRIES"],
  ],
  ["environment variable", () => ({ settings: ', env: { NOTE: "blue" }' }), (record) => embedderOf(record)?.spec.env["NOTE"]],
  ["secret", () => ({ secret: "second" }), (record) => JSON.stringify(embedderOf(record)?.spec.secrets)],
  ["model", () => ({ model: otherModel }), (record) => embedderOf(record)?.spec.model?.name],
  ["image", () => ({ image: otherImage }), (record) => embedderOf(record)?.spec.code.file],
];

describe("a changed", () => {
  test.each(changes)(
    "%s loses no request, nor does its rollback, which brings back what was",
    async (_what, change, shown) => {
      const before = await serving();
      const failures = await served.failuresDuring(async () => {
        configure(change());
        expect(await ran(["deploy"])).toMatchObject({ outcome: "deployed" });
        const changed = await serving();
        expect(shown(changed)).not.toEqual(shown(before));
        expect(await ran(["rollback"])).toMatchObject({ path: "warm" });
      });
      expect(failures).toEqual({});
      const after = await serving();
      expect(after.rollbackOf).not.toBeNull();
      expect(shown(after)).toEqual(shown(before));
      expect(embedderOf(after)?.fingerprint).toBe(embedderOf(before)?.fingerprint);
    },
    patience,
  );
});

test(
  "a release whose image and model left the host is fetched before anything is touched, and comes back; one that was stopped is started",
  async () => {
    const before = await serving();
    configure({ model: otherModel, image: otherImage });
    served.stack.write({ extra: ["soak: 2s", "keepWarm: 0s"] });
    await ran(["deploy"]);
    const [image, volumes] = [embedderOf(before)?.spec.code.file ?? "", "docker volume ls --quiet --filter name=gpuctl-model"];
    const gone = `docker container prune --force && docker image rm "$1" && for v in $(${volumes}); do docker volume rm "$v" || :; done`;
    await served.host.must(["sh", "-c", gone, "gone", image]);
    const { stdout } = await served.stack.run(["releases", "-e", "prod"]);
    expect(stdout).toMatch(/cold/);
    const failures = await served.failuresDuring(async () => {
      expect(await ran(["rollback"])).toMatchObject({ path: "cold" });
    });
    expect(failures).toEqual({});
    expect(embedderOf(await serving())?.fingerprint).toBe(embedderOf(before)?.fingerprint);
    const again = await served.failuresDuring(async () => {
      expect(await ran(["rollback"])).toMatchObject({ path: "cached" });
    });
    expect(again).toEqual({});
  },
  patience,
);

test(
  "a service that is added makes the proxy anew: the plan says so, and it costs one gap of a second or two and nothing else",
  async () => {
    configure({});
    await ran(["deploy"]);
    const embedder = embedderOf(await serving());
    served.stack.write({ services: [embedderLine({}), "index: { port: 18103, device: cpu }"] });
    const { stdout } = await served.stack.run(["plan", "-e", "prod"]);
    expect(stdout).toContain("the proxy of one restarts: connections are refused for about a second");
    const failures = await served.failuresDuring(async () => {
      expect(await ran(["deploy"])).toMatchObject({ outcome: "deployed" });
    });
    const refused = Object.values(failures).reduce((sum, count) => sum + count, 0);
    process.stdout.write(`${refused} requests failed, of up to 50 a second: ${JSON.stringify(failures)}\n`);
    expect(refused).toBeGreaterThan(0);
    expect(refused / 50).toBeLessThan(3);
    expect(embedderOf(await serving())?.since).toBe(embedder?.since);
  },
  patience,
);
