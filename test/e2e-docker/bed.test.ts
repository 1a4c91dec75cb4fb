/** The test bed itself: what later tests rely on. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { globSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Bed } from "../support/bed/bed.js";
import type { BedHost } from "../support/bed/host.js";
import { baseImage } from "../support/bed/images.js";
import { bedsDirectory } from "../support/bed/prepared.js";
import { run, type Ran } from "../support/bed/shell.js";
import { repository } from "../support/sandbox.js";
import { until } from "../support/until.js";

const uuid = "GPU-5a1c3d0e-7b52-4f0a-9c1e-0d6a1f2b3c4d";

/** What this machine has of a bed: everything that could be left behind. */
const traces = (id: string): string[] => [
  ...readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .filter((line) => line.includes(id)),
  ...readdirSync("/sys/class/net").filter((name) => name.includes(id)),
  ...globSync(`/sys/fs/cgroup/{,*/}*${id}*`),
  ...globSync(join(bedsDirectory(), `*${id}*`)),
  ...globSync("/sys/block/loop*/loop/backing_file").filter((file) => mentions(file, id)),
  ...globSync("/proc/[0-9]*/{cmdline,environ,mountinfo}").filter((file) => mentions(file, id)),
];

describe("a bed of two hosts, one with a GPU, one with a small disk", () => {
  let bed: Bed;
  let gpu: BedHost;
  let cpu: BedHost;
  let image: string;

  beforeAll(async () => {
    const name = await baseImage();
    bed = await Bed.start([
      { name: "gpu-1", gpus: [{ uuid }] },
      { name: "cpu-1", dockerMiB: 700 },
    ]);
    [gpu, cpu] = [bed.host("gpu-1"), bed.host("cpu-1")];
    image = `${bed.registry.address}/${name}`;
    await gpu.must(["docker", "pull", "--quiet", image]);
  }, 1_800_000);

  afterAll(async () => {
    const id = basename(bed.folder);
    expect(traces(id).length).toBeGreaterThan(10);
    await bed.stop();
    expect(traces(id)).toEqual([]);
  });

  const ssh = (host: BedHost, command: string, user?: string): Promise<Ran> =>
    run("ssh", ["-o", "ConnectTimeout=3", ...bed.sshArguments(host, user), command], { timeoutMs: 20_000 });

  test("a client that knows the host's key logs in as root, and as somebody who may become root", async () => {
    expect(await ssh(gpu, "hostname; id -un")).toMatchObject({ code: 0, stdout: "gpu-1\nroot\n" });
    expect(await ssh(cpu, "id -un; sudo id -un", "deploy")).toMatchObject({ code: 0, stdout: "deploy\nroot\n" });
  });

  test("Docker 28 or newer with Compose and buildx runs containers from the bed's registry", async () => {
    const version = await gpu.must(["docker", "version", "--format", "{{.Server.Version}}"]);
    expect(Number(version.split(".")[0])).toBeGreaterThanOrEqual(28);
    expect(await gpu.must(["docker", "compose", "version", "--short"])).toMatch(/^2\./);
    expect(await gpu.must(["docker", "buildx", "version"])).toContain("buildx");
    const said = await gpu.must(["docker", "run", "--rm", "--init", image, "python3", "-c", "print(6 * 7)"]);
    expect(said).toBe("42\n");
  });

  test("a container that asks for the GPU gets it, and what it holds is seen from outside with its pid on the host", async () => {
    const listed = `GPU 0: Tesla T4 (UUID: ${uuid})\n`;
    expect(await gpu.must(["nvidia-smi", "-L"])).toBe(listed);
    expect(await gpu.must(["docker", "run", "--rm", "--device", "nvidia.com/gpu=all", image, "nvidia-smi", "-L"])).toBe(listed);
    const claim = `import json, os, time
with open(f"/tmp/bed-gpu-{os.getpid()}", "w") as file: json.dump({"uuid": "${uuid}", "mib": 2048}, file)
time.sleep(600)`;
    const id = await gpu.must(["docker", "run", "--detach", "--device", `nvidia.com/gpu=${uuid}`, image, "python3", "-c", claim]);
    const apps = (): Promise<string> =>
      gpu.must(["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]);
    const pid = (await gpu.must(["docker", "inspect", "--format", "{{.State.Pid}}", id.trim()])).trim();
    await until(async () => (await apps()) === `${pid}, 2048\n`, "the process is listed");
    const used = (): Promise<string> =>
      gpu.must(["nvidia-smi", "--query-gpu=memory.used,memory.free", "--format=csv,noheader,nounits"]);
    expect(await used()).toBe("2051, 12865\n");
    await gpu.must(["docker", "rm", "--force", id.trim()]);
    expect(await apps()).toBe("");
    expect(await used()).toBe("3, 14913\n");
  });

  test("nvidia-smi fails as it is told to", async () => {
    gpu.gpus!.change((state) => (state.fault = { exit: 9, says: "NVIDIA-SMI has failed" }));
    expect(await gpu.exec(["nvidia-smi"])).toMatchObject({ code: 9, stdout: "NVIDIA-SMI has failed\n" });
    gpu.gpus!.change((state) => (state.fault = null));
    gpu.gpus!.change((state) => (state.gpus[0]!.fault = "GPU is lost"));
    const asked = await gpu.must(["nvidia-smi", "--query-gpu=uuid,memory.used", "--format=csv,noheader"]);
    expect(asked).toBe(`${uuid}, [GPU is lost]\n`);
    gpu.gpus!.change((state) => delete state.gpus[0]!.fault);
  });

  test("a driver that is upgraded under a running container: no other can start until the specification is made anew and the host restarted", async () => {
    const start = (name: string): Promise<Ran> =>
      gpu.exec([
        "docker",
        "run",
        "--detach",
        "--restart",
        "always",
        "--name",
        name,
        "--device",
        "nvidia.com/gpu=0",
        image,
        "sleep",
        "600",
      ]);
    expect((await start("first")).code).toBe(0);
    gpu.gpus!.upgradeDriver("580.126.02");
    expect((await gpu.exec(["nvidia-smi"])).code).toBe(18);
    expect((await start("second")).code).not.toBe(0);
    expect(await gpu.must(["docker", "inspect", "--format", "{{.State.Running}}", "first"])).toBe("true\n");
    await gpu.must(["docker", "rm", "--force", "second"]);
    gpu.gpus!.upgradeDriver("580.126.03", { specification: "new" });
    await gpu.reboot();
    expect(await gpu.must(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])).toBe("580.126.03\n");
    await gpu.must(["docker", "rm", "--force", "first"]);
  });

  test("a restart of the host: another boot, the same disk and key, and Docker brings back what it should", async () => {
    const boot = await gpu.must(["cat", "/proc/sys/kernel/random/boot_id"]);
    await gpu.must([
      "docker",
      "run",
      "--detach",
      "--init",
      "--restart",
      "unless-stopped",
      "--name",
      "stays",
      image,
      "sleep",
      "600",
    ]);
    await gpu.must(["docker", "run", "--detach", "--init", "--name", "goes", image, "sleep", "600"]);
    await gpu.must(["sh", "-c", "echo kept > /srv/note"]);
    await gpu.reboot();
    expect(await gpu.must(["cat", "/proc/sys/kernel/random/boot_id"])).not.toBe(boot);
    expect((await ssh(gpu, "cat /srv/note")).stdout).toBe("kept\n");
    const names = (): Promise<string> => gpu.must(["docker", "ps", "--format", "{{.Names}}"]);
    await until(async () => (await names()) === "stays\n", "the container is back");
    await gpu.must(["docker", "rm", "--force", "stays", "goes"]);
  });

  test("a restart of Docker", async () => {
    await gpu.must(["docker", "run", "--detach", "--init", "--restart", "always", "--name", "stays", image, "sleep", "600"]);
    await gpu.stopDocker();
    expect((await gpu.exec(["docker", "ps"])).code).not.toBe(0);
    await gpu.startDocker();
    await until(async () => (await gpu.must(["docker", "ps", "--quiet"])) !== "", "the container is back");
    await gpu.must(["docker", "rm", "--force", "stays"]);
  });

  test("a host behind a pulled cable answers nobody, and goes on when it is back", async () => {
    await cpu.cutNetwork();
    expect((await ssh(cpu, "true")).code).toBe(255);
    expect((await ssh(gpu, "true")).code).toBe(0);
    await cpu.mendNetwork();
    await until(async () => (await ssh(cpu, "true")).code === 0, "it answers again", 30_000);
  });

  test("a registry that is down, and a disk that is full", async () => {
    await bed.registry.stop();
    expect((await cpu.exec(["docker", "pull", image])).stderr).toMatch(/connection refused/);
    await bed.registry.start();
    await cpu.fillDisk(50);
    expect((await cpu.exec(["docker", "pull", image])).stderr).toMatch(/no space left/);
    await cpu.emptyDisk();
    await cpu.must(["docker", "pull", "--quiet", image]);
    await cpu.must(["docker", "image", "rm", image]);
  });

  test("a clock that is wrong by an hour, as a session sees it", async () => {
    await cpu.skewClock(3600);
    const ahead = Number((await ssh(cpu, "date +%s")).stdout) - Date.now() / 1000;
    expect(Math.abs(ahead - 3600)).toBeLessThan(30);
    await cpu.skewClock(0);
    expect(Math.abs(Number((await ssh(cpu, "date +%s")).stdout) - Date.now() / 1000)).toBeLessThan(30);
  });

  test("a host with a new disk has another key, which a client that knows the old one refuses", async () => {
    await cpu.powerOff();
    await cpu.install();
    await cpu.powerOn();
    expect((await ssh(cpu, "true")).stderr).toMatch(/REMOTE HOST IDENTIFICATION HAS CHANGED/);
    bed.writeKnownHosts();
    expect((await ssh(cpu, "true")).code).toBe(0);
  });

  test("a second bed beside it has addresses of its own and takes nothing of it along", async () => {
    const other = await Bed.start([]);
    expect(other.registry.address).not.toBe(bed.registry.address);
    await other.stop();
    expect((await ssh(gpu, "docker info --format ok")).stdout).toBe("ok\n");
  });
});

test("a bed whose owner is killed ends with it, and the next one removes what it left", async () => {
  const source = `import { Bed } from ${JSON.stringify(join(repository, "test/support/bed/bed.ts"))};
const bed = await Bed.start([{ name: "lost" }]);
console.log(bed.folder);`;
  const hooks = join(repository, "test/support/run-typescript.mjs");
  const owner = spawn(process.execPath, ["--import", hooks, "--input-type=module-typescript", "--eval", source], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [folder] = (await once(owner.stdout.setEncoding("utf8"), "data")) as [string];
  owner.kill("SIGKILL");
  await once(owner, "exit");
  const id = basename(folder.trim());
  await until(() => !traces(id).some((trace) => trace.startsWith("/proc/")), "its processes are gone");
  expect(traces(id)).not.toEqual([]);
  await (await Bed.start([])).stop();
  expect(traces(id)).toEqual([]);
});

function mentions(file: string, text: string): boolean {
  try {
    return readFileSync(file, "utf8").includes(text);
  } catch {
    return false; // it ended
  }
}
