import { describe, expect, test } from "vitest";
import {
  gpuContainerCommand,
  judgeGpuContainer,
  removeGpuContainer,
  wantsDeviceNodes,
  type GpuContainerProbe,
  type GpuContainerResult,
} from "../../../cli/src/domain/preflight/gpu-container.js";
import { factsOf } from "./captures.js";

const gpu = "GPU-5a1c3d0e-7b52-4f0a-9c1e-0d6a1f2b3c4d";
const probe: GpuContainerProbe = {
  name: "gpuctl-probe-1",
  image: "services@sha256:1f0c",
  gpu,
  device: `nvidia.com/gpu=${gpu}`,
  as: "user",
  look: "nvidia-smi",
};
const facts = factsOf("t4-ubuntu");
const judge = (result: GpuContainerResult, changes: Partial<GpuContainerProbe> = {}): ReturnType<typeof judgeGpuContainer> =>
  judgeGpuContainer({ ...probe, ...changes }, result, facts);
const list = "GPU 0: Tesla T4 (UUID: GPU-5a1c3d0e-7b52-4f0a-9c1e-0d6a1f2b3c4d)\n";

test("the probe gets the GPU as a service does, and nothing else: no network, no rights, nothing pulled, nothing left", () => {
  expect(gpuContainerCommand(probe).join(" ")).toBe(
    "docker run --rm --pull never --name gpuctl-probe-1 --label gpuctl.probe=gpu --network none --read-only --cap-drop ALL " +
      "--security-opt no-new-privileges --memory 512m --pids-limit 64 --log-driver none --device nvidia.com/gpu=" +
      `${gpu} --entrypoint nvidia-smi services@sha256:1f0c -L`,
  );
  const nodes = gpuContainerCommand({ ...probe, device: "nvidia.com/gpu=all", as: "sudo", look: "device-nodes" });
  expect(nodes.slice(0, 3)).toEqual(["sudo", "-n", "docker"]);
  expect(nodes).toContain("nvidia.com/gpu=all");
  expect(nodes.at(-1)).toContain("/dev/nvidiactl");
  expect(removeGpuContainer(probe)).toEqual(["docker", "rm", "--force", "--volumes", "gpuctl-probe-1"]);
});

describe("a container that starts", () => {
  test("and sees the reserved GPU is good", () => {
    expect(judge({ code: 0, stdout: list, stderr: "" })).toEqual({
      group: "GPU",
      level: "ok",
      code: "gpu-container",
      what: "a container starts and sees GPU 0: Tesla T4",
    });
  });

  test("and sees a MIG instance by its own UUID is good", () => {
    const mig = "GPU 0: NVIDIA H200 (UUID: GPU-1)\n  MIG 1g.18gb     Device  0: (UUID: MIG-2)\n";
    expect(judge({ code: 0, stdout: mig, stderr: "" }, { gpu: "MIG-2" }).level).toBe("ok");
    expect(judge({ code: 0, stdout: mig, stderr: "" }, { gpu: "MIG-3" }).code).toBe("gpu-container-other");
  });

  test("and sees another GPU than the reserved one, or none, is refused", () => {
    expect(judge({ code: 0, stdout: list.replace("5a1c", "0000"), stderr: "" }).code).toBe("gpu-container-other");
    expect(judge({ code: 0, stdout: "No devices found.\n", stderr: "" }).code).toBe("gpu-container-blind");
    expect(judge({ code: 0, stdout: "", stderr: "" })).toMatchObject({ code: "gpu-container-blind", level: "blocker" });
  });

  test("and does not end is refused", () => {
    expect(judge(null).code).toBe("gpu-container-hangs");
  });

  test("without nvidia-smi is looked at by its device nodes, which proves less", () => {
    const missing = {
      code: 127,
      stdout: "",
      stderr:
        'docker: Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "nvidia-smi": executable file not found in $PATH\n',
    };
    expect(wantsDeviceNodes(missing)).toBe(true);
    expect(wantsDeviceNodes({ code: 0, stdout: list, stderr: "" })).toBe(false);
    expect(judge({ code: 0, stdout: "device node /dev/nvidiactl\n", stderr: "" }, { look: "device-nodes" })).toMatchObject({
      level: "warning",
      code: "gpu-container-unproven",
    });
  });
});

/** Words of runc by way of Docker. */
const runc =
  "docker: Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process";

/** What Docker 28.5.2 with runc 1.1.5 said when it was made to fail in each of these ways. */
const seen: readonly (readonly [code: string, stderr: string])[] = [
  [
    "gpu-container-unresolvable",
    "docker: Error response from daemon: CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=all",
  ],
  ["gpu-container-cdi-off", 'docker: Error response from daemon: could not select device driver "cdi" with capabilities: []'],
  [
    "gpu-container-no-toolkit",
    'docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]]',
  ],
  ["gpu-container-image-missing", "docker: Error response from daemon: No such image: nosuch:1"],
  [
    "gpu-container-no-device",
    'docker: Error response from daemon: CDI device injection failed: failed to inject devices: failed to stat CDI host device "/dev/nvidia0": no such file or directory',
  ],
  [
    "gpu-container-stale",
    `${runc}: error during container init: error mounting "/usr/lib/x86_64-linux-gnu/libcuda.so.570.172.08" to rootfs at "/usr/lib/x86_64-linux-gnu/libcuda.so.570.172.08": stat /usr/lib/x86_64-linux-gnu/libcuda.so.570.172.08: no such file or directory`,
  ],
  [
    "gpu-container-hook-missing",
    `${runc}: error during container init: error running hook #0: fork/exec /usr/bin/nvidia-cdi-hook: no such file or directory`,
  ],
  [
    "gpu-container-hook-failed",
    `${runc}: error during container init: error running hook #0: error running hook: exit status 1, stdout: , stderr:`,
  ],
  [
    "gpu-container-no-engine",
    "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
  ],
];

/** What users of other versions, and of cards that are not here, report. */
const reported: readonly (readonly [code: string, stderr: string])[] = [
  [
    "gpu-container-unresolvable",
    "docker: Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime create failed: could not apply required modification to OCI specification: error modifying OCI spec: failed to inject CDI devices: unresolvable CDI devices nvidia.com/gpu=all: unknown.",
  ],
  [
    "gpu-container-hook-missing",
    `${runc}: error during container init: error running createContainer hook #0: fork/exec /usr/bin/nvidia-ctk: no such file or directory: unknown`,
  ],
  [
    "gpu-container-mismatch",
    `${runc}: error during container init: error running prestart hook #0: exit status 1, stdout: , stderr: Auto-detected mode as 'legacy'\nnvidia-container-cli: initialization error: nvml error: driver/library version mismatch: unknown`,
  ],
  [
    "gpu-container-no-engine",
    "docker: permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
  ],
  ["gpu-container-failed", "docker: Error response from daemon: something nobody has seen before"],
];

test.each([...seen, ...reported])("a refusal is %s", (code, stderr) => {
  const found = judge({ code: 125, stdout: "", stderr: `${stderr}\n\nRun 'docker run --help' for more information\n` });
  expect(found).toMatchObject({ level: "blocker", code });
  expect(found.because).not.toContain("--help");
  expect(found.because).not.toContain("\n");
  expect(found.nextSteps?.length).toBeGreaterThan(0);
});

test.each([
  ["gpu-container-mismatch", "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.105\n"],
  ["gpu-container-denied", "Failed to initialize NVML: Unknown Error\n"],
  [
    "gpu-container-no-driver",
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is installed and running.\n",
  ],
])("nvidia-smi itself may fail inside: %s", (code, stdout) => {
  expect(judge({ code: 18, stdout, stderr: "" })).toMatchObject({ level: "blocker", code });
});

test("a node without the toolkit is told to install it before it writes a specification", () => {
  const unresolvable = {
    code: 125,
    stdout: "",
    stderr: "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=all\n",
  };
  const bare = judgeGpuContainer(probe, unresolvable, factsOf("bare-ubuntu"));
  expect(bare.nextSteps).toEqual([
    "add NVIDIA's apt repository: https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html",
    "apt install nvidia-container-toolkit",
    "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
    "nvidia-ctk cdi list",
  ]);
  expect(judge(unresolvable).nextSteps).toEqual([
    "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
    "nvidia-ctk cdi list",
  ]);
});
