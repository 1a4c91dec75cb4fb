import { describe, expect, it } from "vitest";
import { HostCommands } from "../../../../../cli/src/adapters/targets/compose/host-commands.js";
import { NodeRehearsal } from "../../../../../cli/src/adapters/targets/compose/rehearsal.js";
import { hasImage, stageImage } from "../../../../../cli/src/adapters/targets/compose/images.js";
import { leaseCheck, type RehearsedStep } from "../../../../../cli/src/domain/rehearsal.js";
import { ms } from "../../../../../cli/src/domain/units.js";
import type { Command, CommandResult, Lease, RemoteHost } from "../../../../../cli/src/ports.js";

const lease: Lease = { token: 1, check: () => Promise.resolve(), release: () => Promise.resolve() };
const no = (): never => {
  throw new Error("nothing of this may reach the host");
};

/** A host without images that remembers what it really was asked to run. */
class EmptyHost implements RemoteHost {
  readonly name = "one";
  readonly ran: Command[] = [];

  run(command: Command): Promise<CommandResult> {
    this.ran.push(command);
    const missing = command.argv.join(" ").includes("image inspect");
    return Promise.resolve({ code: missing ? 1 : 0, signal: null, stdout: "seen", stderr: missing ? "No such image" : "" });
  }

  readFile = no;
  writeFile = no;
  sendFile = no;
  tunnel = no;
  close = (): Promise<void> => Promise.resolve();
}

function rehearsing(): { host: EmptyHost; steps: RehearsedStep[]; commands: HostCommands } {
  const host = new EmptyHost();
  const steps: RehearsedStep[] = [];
  const commands = new HostCommands({
    node: "one",
    root: "/var/lib/gpuctl/shop/prod",
    connect: () => Promise.resolve(host),
    guard: no,
    rehearsal: new NodeRehearsal("one", (step) => void steps.push(step)),
  });
  return { host, steps, commands };
}

describe("commands in a dry run", () => {
  it("that look are run, those that change are told with all their words, and nothing of their input", async () => {
    const { host, steps, commands } = rehearsing();
    expect(await commands.look({ text: "ls", args: ["/x"], failure: "it could not be seen" })).toBe("seen");
    await commands.change(lease, { text: "rm -f $1", args: ["/x"], input: "a secret", failure: "it could not be removed" });
    await commands.must({ argv: ["docker", "volume", "create", "v"] }, "it could not be made");
    expect(host.ran.map(({ argv }) => argv)).toEqual([["sh", "-c", "ls", "gpuctl", "/x"]]);
    expect(steps).toEqual([
      {
        kind: "command",
        node: "one",
        argv: ["sh", "-c", `${leaseCheck}\nrm -f $1`, "gpuctl", "/x"],
        inputBytes: 8,
      },
      { kind: "command", node: "one", argv: ["docker", "volume", "create", "v"], inputBytes: null },
    ]);
    expect(JSON.stringify(steps)).not.toContain("a secret");
  });

  it("find an image that they would have brought", async () => {
    const { host, steps, commands } = rehearsing();
    const image = { reference: `registry.example/services@sha256:${"a".repeat(64)}`, local: null };
    expect(await hasImage(commands, image.reference)).toBe(false);
    await stageImage(commands, image, { emit: () => undefined }, new AbortController().signal);
    expect(await hasImage(commands, image.reference)).toBe(true);
    expect(await hasImage(commands, "another")).toBe(false);
    await commands.must({ argv: ["sh", "-c", "tar -cf - . | docker load --quiet"] }, "it could not be loaded");
    expect(await hasImage(commands, "sha256:sent")).toBe(true);
    expect(await hasImage(commands, "another")).toBe(false);
    expect(steps[0]).toEqual({
      kind: "command",
      node: "one",
      argv: ["docker", "pull", image.reference],
      inputBytes: null,
    });
    expect(host.ran.every(({ argv }) => argv.includes("inspect"))).toBe(true);
  });

  it("send no file and write none", async () => {
    const { steps, commands } = rehearsing();
    const host = await commands.host();
    await host.sendFile({ local: "/here", remote: "/there", mode: 0o600, sha256: "0" }, { deadline: ms(1000) });
    await host.writeFile("/file", "four", 0o600, { deadline: ms(1000) });
    expect(steps).toEqual([
      { kind: "send", node: "one", local: "/here", path: "/there" },
      { kind: "file", node: "one", path: "/file", bytes: 4 },
    ]);
  });
});
