import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { HostState } from "../../../../cli/src/adapters/remote-state/host-state.js";
import { ms } from "../../../../cli/src/domain/units.js";
import type { RemoteHost } from "../../../../cli/src/ports.js";
import { thisMachineAs } from "../../../contract/state/remote-environment.js";
import { temporaryDirectories } from "../../../support/temporary.js";

const temporary = temporaryDirectories();
const here = (): Promise<RemoteHost> => thisMachineAs("box", { PATH: process.env["PATH"] });
const sleeping = { text: "exec sleep 60", args: [], failure: "the sleep could not be slept" };

describe("a script on a host", () => {
  it("ends at its deadline, and says which host and how long", async () => {
    const host = new HostState({ name: "box", root: "/nowhere", connect: here, deadline: ms(100) });
    await expect(host.run(sleeping)).rejects.toMatchObject({ exit: "failed", message: expect.stringMatching(/box/) as unknown });
  });

  it("is not waited for past the deadline on a host that lets nobody in and says nothing", async () => {
    const connect = (signal: AbortSignal): Promise<RemoteHost> =>
      new Promise((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason as Error));
      });
    const host = new HostState({ name: "box", root: "/nowhere", connect, deadline: ms(50) });
    await expect(host.run(sleeping)).rejects.toMatchObject({
      exit: "targetUnreachable",
      because: "it did not answer within 0.1 s",
    });
  });

  it.each(["of the script", "of everything"])("ends with the signal %s", async (which) => {
    const controller = new AbortController();
    const { signal } = controller;
    const all = which === "of everything" ? { signal } : {};
    const host = new HostState({ name: "box", root: "/nowhere", connect: here, ...all });
    const running = host.run(which === "of everything" ? sleeping : { ...sleeping, signal });
    setTimeout(() => controller.abort(new Error("stopped by hand")), 50);
    await expect(running).rejects.toThrow("stopped by hand");
    await expect(host.run({ ...sleeping, signal: AbortSignal.abort(new Error("never began")) })).rejects.toThrow(
      /never began|by hand/,
    );
  });

  it("says what the host said, and what to type, when it fails for a reason of its own", async () => {
    const root = join(temporary(), "state");
    const host = new HostState({ name: "box", root, connect: here });
    const failing = (said: string): Promise<string> =>
      host.run({ text: 'echo "$2" >&2; exit 7', args: [said], failure: "the record could not be written" });
    await expect(failing("mv: cannot move: No space left on device")).rejects.toMatchObject({
      message: "the record could not be written on box",
      because: "mv: cannot move: No space left on device",
      nextSteps: expect.arrayContaining([`df -h ${root}   # on box`, "gpuctl prune"]) as unknown,
    });
    const steps = async (said: string): Promise<string> =>
      failing(said).catch((error: unknown) => (error as { nextSteps: readonly string[] }).nextSteps.join());
    expect(await steps("cat: Read-only file system")).toContain("findmnt");
    expect(await steps("sudo: a password is required")).toContain("sudo without a password");
    expect(await steps("")).toContain("gpuctl doctor");
  });
});
