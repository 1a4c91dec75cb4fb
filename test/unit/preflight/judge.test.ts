import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { doctorText, tally } from "../../../cli/src/domain/doctor/diagnose.js";
import { judgeNode } from "../../../cli/src/domain/preflight/judge.js";
import type { NodeNeeds } from "../../../cli/src/domain/preflight/needs.js";
import { readNodeFacts } from "../../../cli/src/domain/preflight/read-facts.js";
import { factsOf, needs, nodes, type Changes } from "./captures.js";
import { cases, cuda, df, info, judged, noGpu, spec, want } from "./cases.js";

const onCpu = want({ services: [cuda({ device: { prefer: "cpu", require: null, proof: "self" }, gpu: null, vramMiB: null })] });
const maybe = want({ services: [cuda({ device: { prefer: "cuda", require: null, proof: "self" } })] });

test.each(nodes)("the report of %s", async (name) => {
  const report = doctorText(judgeNode(factsOf(name), needs));
  await expect(`${report}\n`).toMatchFileSnapshot(`../../golden/preflight/${name}.report.txt`);
});

test("a node that is as it should be has nothing but good findings", () => {
  expect(tally(judgeNode(factsOf("t4-ubuntu"), needs))).toEqual({ blockers: 0, warnings: 0 });
});

test.each(Object.entries(cases))("%s is found where it belongs", (code, one) => {
  const found = judged(one, code).find((finding) => finding.code === code);
  expect(found?.level).toBe(one[0]);
  if (one[0] === "ok") return;
  expect(found?.because).toBeTruthy();
  expect(found?.nextSteps?.length).toBeGreaterThan(0);
});

test("a node that has lost every card it was made with takes no deploy, not even of services on the CPU", () => {
  const codes = (needs: NodeNeeds): string[] =>
    judgeNode(factsOf("t4-ubuntu", noGpu), needs)
      .filter(({ level }) => level === "blocker")
      .map(({ code }) => code);
  expect(
    codes({
      ...onCpu,
      promised: { gpus: { expected: 1, product: null, memory: null }, ports: [8001, 8002, 8003], by: "stack prod" },
    }),
  ).toContain("gpus-missing");
  expect(codes(onCpu)).not.toContain("gpus-missing");
});

test("a card that is not like the promised one is named, where anybody said how it should be", () => {
  const found = (product: string | null, memory: number | null): unknown =>
    judgeNode(factsOf("t4-ubuntu"), {
      ...needs,
      promised: { gpus: { expected: 1, product, memory }, ports: [8001, 8002, 8003], by: "stack prod" },
    }).find(({ code }) => code === "gpu-other");
  for (const [product, memory] of [
    [null, null],
    ["Tesla T4", 15_360],
    ["NVIDIA tesla t4", 16_384],
    [null, 8192],
  ] as const)
    expect(found(product, memory)).toBeUndefined();
  const what = "GPU 0 Tesla T4: not the card that was promised";
  expect(found("NVIDIA L4", 15_360)).toMatchObject({ what, because: "the inventory (stack prod) promises NVIDIA L4" });
  expect(found("Tesla T4", 24_564)).toMatchObject({
    what,
    because: "the inventory (stack prod) promises 24564 MiB, and it has 15360",
  });
});

test("every finding is absent from some node: a bad one from the good node, a good one from a bad node", () => {
  const good = new Set(judged(["ok", "t4-ubuntu", {}], "").map(({ code }) => code));
  // A node of which nothing is known but that it is there.
  const blank = new Set(judgeNode(readNodeFacts("", null, { asked: 0, answered: 0 }), needs).map(({ code }) => code));
  for (const [code, [level]] of Object.entries(cases)) expect((level === "ok" ? blank : good).has(code), code).toBe(false);
});

test("the table above has every code that the checks can give", () => {
  const folder = new URL("../../../cli/src/domain/preflight/", import.meta.url);
  const sources = readdirSync(folder)
    .filter((name) => /^check-.*\.ts$/.test(name))
    .map((name) => readFileSync(new URL(name, folder), "utf8"));
  const literal =
    /\b(?:ok|warning|blocker|level)\(\s*"[A-Za-z]+",\s*(?:[^",]+\? )?"([a-z0-9-]+)"(?: : "([a-z0-9-]+)")?|code: "([a-z0-9-]+)"/g;
  const codes = sources.flatMap((source) => [...source.matchAll(literal)].flatMap((match) => match.slice(1).filter(Boolean)));
  expect(new Set(codes).size).toBeGreaterThan(60);
  expect([...new Set(codes)].filter((code) => !(code in cases))).toEqual([]);
});

describe("levels follow what was asked for", () => {
  test("without a GPU, services that require one are stopped, those that prefer one are warned, others are left alone", () => {
    const level = (wanted: NodeNeeds): unknown =>
      judgeNode(factsOf("t4-ubuntu", noGpu), wanted).find(({ code }) => code === "no-gpu")?.level;
    expect([level(needs), level(maybe), level(onCpu)]).toEqual(["blocker", "warning", "ok"]);
  });

  test("where there is no card, CDI, toolkit and kernel log are not spoken of", () => {
    const gpu = judgeNode(factsOf("debian-docker"), needs).filter(({ group }) => group === "GPU");
    expect(gpu.map(({ code }) => code)).toEqual(["no-gpu"]);
  });

  test("what containers lack for a GPU stops only those who require one", () => {
    const levels = (wanted: NodeNeeds): unknown =>
      judgeNode(factsOf("bare-ubuntu"), wanted)
        .filter(({ group, level }) => group === "GPU" && level !== "ok")
        .map(({ code, level }) => `${level} ${code}`);
    const codes = ["driver-missing", "container-toolkit-missing", "cdi-spec-missing"];
    expect(levels(needs)).toEqual(codes.map((code) => `blocker ${code}`));
    expect(levels(maybe)).toEqual(codes.map((code) => `warning ${code}`));
  });

  test("a node of services on the CPU hears nothing of CDI, toolkit, holds and persistence", () => {
    const groups = judgeNode(factsOf("bare-ubuntu"), onCpu).filter(({ group }) => group === "GPU");
    expect(groups.map(({ code, level }) => [code, level])).toEqual([["driver-missing", "ok"]]);
  });

  test("without root a node takes no deploy, also where Docker takes the user: state belongs to root", () => {
    const facts = factsOf("t4-ubuntu", { sudo: [1, "sudo: a password is required"] });
    expect(facts.docker.state).toBe("reachable");
    const [found, ...others] = judgeNode(facts, needs).filter(({ level }) => level === "blocker");
    expect(others).toEqual([]);
    expect(found).toMatchObject({ code: "no-root", because: expect.stringContaining("sudo: a password is required") as string });
    expect(found?.nextSteps?.[0]).toBe("sudo visudo -f /etc/sudoers.d/gpuctl, with the line: deploy ALL=(ALL) NOPASSWD: ALL");
  });

  test("too little memory stops a deploy only where the whole machine has too little", () => {
    const level = (total: number): unknown =>
      judgeNode(
        factsOf("t4-ubuntu", { memory: [0, `MemTotal: ${total.toString()} kB\nMemAvailable: 1000000 kB\n`] }),
        needs,
      ).find(({ code }) => code === "memory-low")?.level;
    expect([level(8_000_000), level(2_000_000)]).toEqual(["warning", "blocker"]);
  });
});

describe("memory", () => {
  const memory = (totalMiB: number, availableMiB: number, wanted: NodeNeeds): unknown => {
    const said = `MemTotal: ${(totalMiB * 1024).toString()} kB\nMemAvailable: ${(availableMiB * 1024).toString()} kB\n`;
    const { level, because, nextSteps } =
      judgeNode(factsOf("t4-ubuntu", { memory: [0, said] }), wanted).find(({ code }) => code.startsWith("memory")) ??
      expect.fail("nothing was said of memory");
    return level === "ok" ? level : { level, because, nextSteps };
  };
  const gib = 2 ** 30;

  test("of a service on the GPU is that of its process and of its model, which passes through it", () => {
    const one = want({ services: [cuda({ modelBytes: 2 * gib })] });
    expect(memory(32_000, 2560 + 2048, one)).toBe("ok");
    expect(memory(32_000, 2560 + 2047, one)).toMatchObject({
      level: "warning",
      because: "1 service needs about 4.5 GiB beside what runs now: processes and their models",
    });
    expect(memory(2560 + 2047, 2000, one)).toMatchObject({ level: "blocker" });
    const cpu = { prefer: "cpu", require: null, proof: "self" } as const;
    expect(memory(32_000, 1024 + 2048, want({ services: [cuda({ modelBytes: 2 * gib, device: cpu })] }))).toBe("ok");
  });

  test("has the models once more, and a process, for an instance that stands behind on the CPU", () => {
    const two = want({
      services: [cuda({ modelBytes: 2 * gib, cpuFallback: true }), cuda({ name: "embedder", modelBytes: gib })],
    });
    const needed = 2560 + 2048 + 1024 + 2048 + 2560 + 1024;
    expect(memory(32_000, needed, two)).toBe("ok");
    expect(memory(32_000, needed - 1, two)).toEqual({
      level: "warning",
      because:
        "2 services need about 11.0 GiB beside what runs now: processes and their models, those of reranker twice for fallback: cpu",
      nextSteps: [
        "free -h, then end what is not needed",
        "or in gpuctl.yaml without fallback: cpu, which keeps a second copy of a model in memory",
        "or a smaller model, or use a host with more memory",
      ],
    });
  });

  test("leaves out models whose size nobody knows, and says so", () => {
    const because = expect.stringContaining("; a model whose size is not known is not counted") as string;
    const unknown = want({ services: [cuda({ modelBytes: null })] });
    expect(memory(32_000, 2560, unknown)).toBe("ok");
    expect(memory(32_000, 2559, unknown)).toMatchObject({ level: "warning", because });
  });
});

describe("disk", () => {
  const disk = (kibibytes: number, wanted = needs): unknown =>
    judgeNode(
      factsOf("t4-ubuntu", {
        "docker-disk": [0, `/var/lib/docker\n${df(kibibytes)}`],
        "data-disk": [0, `folder\nwritable\n${df(kibibytes)}/var/lib/gpuctl\n`],
      }),
      wanted,
    )
      .filter(({ code }) => code.startsWith("disk"))
      .map(({ code, what }) => `${code}: ${what}`);

  test("images, models and 100 MB of records on one file system need their sum and a fifth", () => {
    // 9.0 + 2.3 + 0.1 GB and a fifth are 13.68 GB: 13,359,375 KiB.
    expect(disk(13_359_375)).toEqual(["disk: /var/lib/docker: 13.7 GB free for images, models and records"]);
    expect(disk(13_359_374)).toEqual(["disk-full: /var/lib/docker: 13.7 GB free for images, models and records"]);
  });

  test("with containerd's store, images need room where containerd keeps them", () => {
    const output = `/var/lib/docker\n${df(9e8)}/var/lib/containerd\n${df(1e6).replaceAll("nvme0n1p2", "sdb1")}`;
    const facts = factsOf("t4-ubuntu", {
      "docker-info": info({ DriverStatus: [["driver-type", "io.containerd.snapshotter.v1"]] }),
      "docker-disk": [0, output],
    });
    expect(judgeNode(facts, needs).find(({ code }) => code === "disk-full")?.what).toBe(
      "/var/lib/containerd: 1.0 GB free for images and models",
    );
  });
});

describe("what a driver upgrade under running containers looks like", () => {
  test("libraries of another version stop a deploy even while nvidia-smi still answers", () => {
    const found = judgeNode(
      factsOf("t4-ubuntu", { library: [0, "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.105.08\n"] }),
      needs,
    );
    expect(found.find(({ code }) => code === "driver-mismatch")).toMatchObject({ level: "blocker", nextSteps: ["sudo reboot"] });
  });

  test("an old specification in /etc/cdi does no harm behind a fresh one in /var/run/cdi", () => {
    const both = spec("/etc/cdi/nvidia.yaml", "570.172.08") + spec("/var/run/cdi/nvidia.yaml", "580.95.05");
    expect(tally(judgeNode(factsOf("t4-ubuntu", { "cdi-files": [0, both] }), needs))).toEqual({ blockers: 0, warnings: 0 });
  });
});

describe("holds", () => {
  const held = (unattended: string): unknown =>
    judgeNode(factsOf("t4-ubuntu", { holds: [0, ""], unattended: [0, unattended] }), needs).find(
      ({ code }) => code.startsWith("driver-") && code.endsWith("held"),
    )?.code;

  test("are not needed for what unattended-upgrades leaves alone by a plain pattern", () => {
    const on = 'APT::Periodic::Unattended-Upgrade "1";\n';
    const all = ["nvidia-", "libnvidia-", "linux-modules-nvidia-.*"]
      .map((name) => `Unattended-Upgrade::Package-Blacklist:: "${name}";\n`)
      .join("");
    expect(held(on + all)).toBe("driver-held");
    expect(held(on + all.replace('"libnvidia-"', '"libnvidia-compute$"'))).toBe("driver-not-held");
    expect(held(on + all.replace('"libnvidia-"', '"(lib)+nvidia"'))).toBe("driver-not-held");
  });
});

describe("exposure", () => {
  const exposure = (wanted: Partial<NodeNeeds>, changes: Changes = {}): unknown =>
    judgeNode(factsOf("t4-ubuntu", changes), want(wanted)).find(({ code }) =>
      ["exposure", "port-exposed", "port-public"].includes(code),
    )?.code;

  test("loopback and an address inside the allowed networks are fine; a wildcard on a public interface is not", () => {
    expect(exposure({ bind: "10.0.0.5" })).toBe("exposure");
    expect(exposure({ bind: "127.0.0.1" })).toBeUndefined();
    expect(exposure({ bind: "10.0.0.5", allow: ["10.9.0.0/16"] })).toBe("port-exposed");
    expect(exposure({ bind: "203.0.113.7" })).toBe("port-exposed");
    expect(exposure({ bind: "203.0.113.7", allow: ["0.0.0.0/0"] })).toBe("exposure");
    expect(exposure({ bind: "203.0.113.7", allow: null, services: [cuda({ keys: false })] })).toBe("port-public");
    expect(exposure({ bind: "10.0.0.5", allow: null, services: [cuda({ keys: false })] })).toBe("exposure");
  });

  test("a refusal in DOCKER-USER counts, Docker's own empty chain does not", () => {
    const rule = "-A DOCKER-USER ! -s 10.0.0.0/24 -i enp1s0 -j DROP\n-A DOCKER-USER -j RETURN\n";
    expect(exposure({ bind: "0.0.0.0" }, { "docker-user": [0, rule] })).toBe("exposure");
    expect(exposure({ bind: "0.0.0.0" }, { "docker-user": [0, "-N DOCKER-USER\n"] })).toBe("port-exposed");
  });

  test("the bridge of containers is no way in from outside", () => {
    const bridge = "2: eth0    inet 10.0.0.5/24 scope global eth0\n3: docker0    inet 172.17.0.1/16 scope global docker0\n";
    expect(exposure({ bind: "0.0.0.0" }, { addresses: [0, bridge] })).toBe("exposure");
  });

  test("our own containers are not reported as passing by ufw", () => {
    const codes = judgeNode(factsOf("t4-ubuntu"), want({ bind: "0.0.0.0" })).map(({ code }) => code);
    expect(codes).not.toContain("docker-bypasses-ufw");
  });
});
