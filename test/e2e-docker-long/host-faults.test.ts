/** What happens to hosts and images while services run: restarts, full disks, lost registries, rotten files, candidates that are no good. */
import { appendFileSync, chmodSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { stubGpuImage } from "../support/bed/images.js";
import { Served } from "../support/bed/served.js";
import { pinned } from "../support/bed/stack.js";
import { until } from "../support/until.js";

const deploying = ["deploy", "-e", "prod"];
const patience = 240_000;

/** The services' image with the tests' engines: faults by a variable, computed on the CPU without a GPU. */
let served: Served;

beforeAll(async () => {
  served = await Served.start({ image: stubGpuImage, dockerMiB: 6000 });
  const first = await served.stack.run(deploying);
  if (first.code !== 0) throw new Error(first.stderr);
}, 1_800_000);

afterAll(async () => {
  await served.stop();
});

/** Deploys something that has to fail, with clients all the while; what it said. The release before serves on. */
async function refused(code: number, settings = ""): Promise<string> {
  const before = (await served.status()).release?.id;
  let said = "";
  const failures = await served.failuresDuring(async () => {
    served.change(settings);
    const deploy = await served.stack.run(deploying);
    said = deploy.stderr;
    expect(deploy.code, said).toBe(code);
  });
  expect(failures).toEqual({});
  const after = await served.status();
  expect(after.release?.id).toBe(before);
  expect(after.instances.filter(({ traffic }) => traffic === "open")).toHaveLength(1);
  return said;
}

/** A deploy of the project file as it is; it has to succeed. */
async function deployed(): Promise<void> {
  const deploy = await served.stack.run(deploying);
  expect(deploy.code, deploy.stderr).toBe(0);
}

const fault = (name: string, more = ""): string => `, env: { FAULTY_ENGINE: "${name}" }${more}`;

describe("a candidate that is no good", () => {
  test("and exits while it loads is refused at once, with what it said", async () => {
    expect(await refused(6, fault("exit-at-load"))).toMatch(/keeps serving/);
  }, 600_000);

  test("and hangs while it loads is refused when its time is over", async () => {
    served.stack.write({ extra: ["load: 20s"] });
    expect(await refused(6, fault("hang-at-load"))).toMatch(/load/);
    served.stack.write({ extra: [] });
  }, 600_000);

  test("and answers too slowly fails the benchmark gate", async () => {
    const gate = ", gate: { benchmark: { maxP95: 200ms, seconds: 2 } }";
    expect(await refused(6, fault("slow:600ms", gate))).toMatch(/p95/);
  }, 600_000);

  test("and gives wrong answers once it serves is taken back in the soak", async () => {
    served.stack.write({ extra: ["soak: 30s"] });
    const said = await refused(6, fault("wrong-answers-after:1s"));
    expect(said).toMatch(/switch[^]*soak/);
    expect(said).toMatch(/keeps serving/);
    served.stack.write({ extra: [] });
  }, 600_000);

  test("because there is no such image is refused before anything is touched", async () => {
    const services = served.images.services.replace(/sha256:.*/, `sha256:${"0".repeat(64)}`);
    served.stack.write({ images: { ...served.images, services } });
    const said = await refused(5);
    expect(said).toMatch(/could not be pulled|is not in the registry/);
    expect(said).not.toMatch(/06 lease/);
    served.stack.write({ images: served.images });
  }, 600_000);
});

describe("a registry that is gone", () => {
  test("is no trouble where the image is on the host, and is named where it is not", async () => {
    await served.bed.registry.stop();
    const failures = await served.failuresDuring(async () => {
      served.change();
      await deployed();
      served.stack.write({ images: { ...served.images, services: served.images.services.replace(/.$/, "0") } });
      const refusedNow = await served.stack.run(deploying);
      expect(refusedNow.code, refusedNow.stderr).toBe(5);
      expect(refusedNow.stderr).toMatch(/could not be pulled[^]*connection refused/);
      expect(refusedNow.stderr).toContain(`curl -I http://${served.bed.registry.address}/v2/`);
      expect(refusedNow.stderr).not.toMatch(/06 lease/);
    });
    served.stack.write({ images: served.images });
    await served.bed.registry.start();
    expect(failures).toEqual({});
  }, 600_000);
});

/** The same image with 150 MB more, which only the registry has. */
async function largerImage(): Promise<string> {
  const name = `${served.bed.registry.address}/larger:1`;
  const script = `mkdir /tmp/larger && cd /tmp/larger && head -c 150000000 /dev/urandom >filler &&
printf 'FROM %s\nCOPY filler /opt/filler\n' "$2" >Dockerfile && docker build --quiet --provenance false --tag "$1" . &&
docker push --quiet "$1" && docker image rm "$1" && docker builder prune --all --force && rm -rf /tmp/larger`;
  await served.host.must(["sh", "-c", script, "larger", name, served.images.services], { timeoutMs: patience });
  return pinned(served.bed, served.host, "larger:1");
}

describe("a disk that is full while an image comes", () => {
  test("is named, harms nothing that serves, and the same command goes on once there is room", async () => {
    const services = await largerImage();
    await served.host.fillDisk(40);
    const failures = await served.failuresDuring(async () => {
      served.stack.write({ images: { ...served.images, services } });
      const full = await served.stack.run(deploying);
      expect(full.stderr).toMatch(/0\.0 GB free for images and models[^]*are to be brought/);
      expect(full.code, full.stderr).toBe(5);
      expect(full.stderr).not.toMatch(/06 lease/);
      expect((await served.status()).instances.filter(({ traffic }) => traffic === "open")).toHaveLength(1);
      await served.host.emptyDisk();
      await deployed();
    });
    served.stack.write({ images: served.images });
    expect(failures).toEqual({});
  }, 600_000);
});

describe("a disk that becomes full while an image is pulled", () => {
  test("is named before anything is stopped, the release serves on, and the same command goes on once there is room", async () => {
    const services = await largerImage();
    const before = (await served.status()).release?.id;
    const failures = await served.failuresDuring(async () => {
      served.stack.write({ images: { ...served.images, services } });
      const deploy = served.stack.start(deploying);
      const pulling = async (): Promise<boolean> =>
        (await served.host.exec(["pgrep", "-f", "^docker pull .*/larger@"])).code === 0;
      await until(pulling, "the image is pulled", patience);
      await served.host.fillDisk(40);
      const full = await deploy.ended;
      expect(full.code, full.stderr).toBe(1);
      expect(full.stderr).toMatch(/could not be pulled on one[^]*no space left on device[^]*df -h \/var\/lib\/docker/);
      expect(full.stderr).not.toMatch(/06 lease/);
      const { release, instances } = await served.status();
      expect(release?.id).toBe(before);
      expect(instances.filter(({ traffic }) => traffic === "open")).toHaveLength(1);
      await served.host.emptyDisk();
      await deployed();
    });
    served.stack.write({ images: served.images });
    expect(failures).toEqual({});
  }, 600_000);
});

describe("a model file that changes on its host", () => {
  test("is drift that status names, and repair puts back without a lost request", async () => {
    const volumes = await served.host.must(["docker", "volume", "ls", "--quiet", "--filter", "name=gpuctl-model"]);
    const [volume = ""] = volumes.trim().split("\n");
    const folder = (await served.host.must(["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", volume])).trim();
    const file = join(served.host.root, folder, "tokenizer.json");
    const failures = await served.failuresDuring(async () => {
      chmodSync(file, 0o644);
      appendFileSync(file, " ");
      expect((await served.status()).drift.join("\n")).toMatch(/files/);
      const repair = await served.stack.run(["repair", "-e", "prod"]);
      expect(repair.code, repair.stderr).toBe(0);
      expect((await served.status()).drift).toEqual([]);
    });
    expect(failures).toEqual({});
  }, 600_000);
});

describe("Docker and the host", () => {
  test("restarted: what served serves again, with its gate open, without anybody's help", async () => {
    const before = await served.open();
    await served.host.restartDocker();
    await until(() => served.answers(), "it serves after a restart of Docker", patience);
    expect(await served.open()).toEqual(before);
    await served.host.reboot();
    await until(() => served.answers(), "it serves after a reboot", patience);
    expect(await served.open()).toEqual(before);
    const after = await served.status();
    expect(after.release?.state).toBe("good");
    expect(after.drift).toEqual([]);
  }, 600_000);

  test("restarted in the middle of a deploy: the release before serves, and the next deploy settles it", async () => {
    served.change();
    const deploy = served.stack.start(deploying);
    await deploy.saysOnStderr(/08 start/, patience);
    await served.host.restartDocker();
    const ended = await deploy.ended;
    expect([0, 6, 9], ended.stderr).toContain(ended.code);
    await until(() => served.answers(), "it serves after a restart of Docker", patience);
    await deployed();
    const after = await served.status();
    expect(after.drift).toEqual([]);
    expect(after.instances.filter(({ traffic }) => traffic === "open")).toHaveLength(1);
  }, 600_000);
});
