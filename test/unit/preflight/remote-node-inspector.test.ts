import { expect, test } from "vitest";
import { RemoteNodeInspector } from "../../../cli/src/adapters/preflight/remote-node-inspector.js";
import { Failed, TargetUnreachable } from "../../../cli/src/domain/errors.js";
import type { CommandResult } from "../../../cli/src/ports.js";
import type { HostConnector, RemoteHost } from "../../../cli/src/ports/remote-host.js";
import { ScriptedExecutor } from "../../fakes/scripted-executor.js";
import { outputOf } from "./captures.js";

const signal = new AbortController().signal;
const clock = { now: () => new Date(1_795_257_990_000) };
const wanted = { image: "services:1", gpu: "GPU-1", device: "nvidia.com/gpu=GPU-1", as: "user" } as const;

/** One node whose commands are answered as a test says. */
class OneNode implements Pick<HostConnector, "connect"> {
  readonly asked: string[] = [];
  readonly #answer: (line: string) => Partial<CommandResult>;

  constructor(answer: (line: string) => Partial<CommandResult>) {
    this.#answer = answer;
  }

  async connect(node: string): Promise<RemoteHost> {
    if (node !== "gpu-1") throw new TargetUnreachable(`${node} cannot be reached`);
    const executor = new ScriptedExecutor((command) => {
      const line = command.argv.join(" ");
      this.asked.push(line.replace(/gpuctl-probe-[0-9a-f]{12}/, "PROBE"));
      return this.#answer(line);
    });
    return { name: node, run: executor.run.bind(executor) } as Partial<RemoteHost> as RemoteHost;
  }
}

const inspector = (answer: (line: string) => Partial<CommandResult>): [RemoteNodeInspector, OneNode] => {
  const node = new OneNode(answer);
  return [new RemoteNodeInspector(node, clock), node];
};

test("a node is looked at by one command, whose input is the script", async () => {
  const [nodes, node] = inspector(() => ({ stdout: outputOf("t4-ubuntu") }));
  const facts = await nodes.inspect("gpu-1", "/var/lib/gpuctl", signal);
  expect(facts.docker).toMatchObject({ state: "reachable", server: "28.5.2" });
  expect(node.asked).toEqual(["sh"]);
});

test("a node that cannot be reached is the connection's error", async () => {
  const [nodes] = inspector(() => ({}));
  await expect(nodes.inspect("gpu-2", "/d", signal)).rejects.toThrow("gpu-2 cannot be reached");
});

test("an image is there when the engine knows it, asked as whoever may", async () => {
  const [nodes, node] = inspector((line) => ({ code: line.includes("services:1") ? 0 : 1 }));
  expect(await nodes.hasImage("gpu-1", "services:1", "sudo", signal)).toBe(true);
  expect(await nodes.hasImage("gpu-1", "services:2", "user", signal)).toBe(false);
  expect(node.asked).toEqual([
    "sudo -n docker image inspect --format {{.Id}} services:1",
    "docker image inspect --format {{.Id}} services:2",
  ]);
});

test("a container that ends leaves nothing to be removed", async () => {
  const [nodes, node] = inspector(() => ({ stdout: "GPU 0: Tesla T4 (UUID: GPU-1)\n" }));
  const { probe, result } = await nodes.tryGpu("gpu-1", wanted, signal);
  expect(result).toMatchObject({ code: 0 });
  expect(probe.look).toBe("nvidia-smi");
  expect(node.asked).toHaveLength(1);
});

test("without nvidia-smi inside, the device nodes are looked at by a second container", async () => {
  const [nodes, node] = inspector((line) =>
    line.includes("/bin/sh")
      ? { stdout: "device node /dev/nvidiactl\n" }
      : { code: 127, stderr: 'exec: "nvidia-smi": executable file not found in $PATH' },
  );
  const { probe, result } = await nodes.tryGpu("gpu-1", wanted, signal);
  expect([probe.look, result?.code, node.asked.length]).toEqual(["device-nodes", 0, 2]);
});

test("one that hangs is removed by its name, and is no result", async () => {
  const [nodes, node] = inspector((line) => {
    if (line.startsWith("docker run")) throw new Failed("it took longer than 60 s");
    return {};
  });
  expect((await nodes.tryGpu("gpu-1", wanted, signal)).result).toBeNull();
  expect(node.asked[1]).toBe("docker rm --force --volumes PROBE");
});

test("one that is under way when the command is stopped is removed all the same, and the signal is what is thrown", async () => {
  const stop = new AbortController();
  const [nodes, node] = inspector((line) => {
    if (!line.startsWith("docker run")) return {};
    stop.abort(new Error("stopped"));
    throw new Error("aborted");
  });
  await expect(nodes.tryGpu("gpu-1", wanted, stop.signal)).rejects.toThrow("stopped");
  expect(node.asked[1]).toBe("docker rm --force --volumes PROBE");
});

test("a repair that works says nothing, one that fails says its last words", async () => {
  const [nodes] = inspector((line) =>
    line.includes("-pm") ? { code: 1, stderr: "Unable to set persistence mode\nInsufficient Permissions\n" } : {},
  );
  expect(await nodes.repair("gpu-1", ["apt-mark", "hold", "nvidia-utils-580-server"], signal)).toBeNull();
  expect(await nodes.repair("gpu-1", ["nvidia-smi", "-pm", "1"], signal)).toBe("Insufficient Permissions");
});
