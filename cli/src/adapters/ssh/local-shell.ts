import { spawn } from "node:child_process";
import { connect } from "node:net";
import type { Duplex, Readable } from "node:stream";
import type { Environment } from "../state/directories.js";
import type { HostShell, ScriptEvents, TunnelEnd } from "./host-shell.js";

/**
 * This machine as a host (`host: local`): the same scripts under the same shell, so that what works here works over SSH. Each
 * runs in a process group of its own, which the kernel does for a session of sshd too.
 */
export class LocalShell implements HostShell {
  readonly status = "native";
  readonly lost = false;
  readonly #env: Environment;

  constructor(env: Environment) {
    this.#env = env;
  }

  start(script: string, input: Readable | null, events: ScriptEvents): Promise<() => void> {
    let deaf = false;
    const child = spawn("/bin/sh", ["-c", script], { env: this.#env, stdio: "pipe", detached: true });
    child.stdout.on("data", (chunk: Buffer) => deaf || events.stdout(chunk));
    child.stderr.on("data", (chunk: Buffer) => deaf || events.stderr(chunk));
    child.on("error", (error) => deaf || events.closed(error));
    child.on("exit", (code, signal) => deaf || events.exited({ code, signal }));
    child.on("close", () => deaf || events.closed(null));
    // A script that ends without reading its input is not an error of ours.
    child.stdin.on("error", () => undefined);
    if (input === null) child.stdin.end();
    else input.pipe(child.stdin);
    return Promise.resolve(() => {
      deaf = true;
      child.stdin.destroy();
      child.stdout.destroy();
      child.stderr.destroy();
    });
  }

  forward(to: TunnelEnd): Promise<Duplex> {
    const end = "port" in to ? { host: "127.0.0.1", port: to.port } : { path: to.socket };
    return Promise.resolve(connect({ ...end, allowHalfOpen: true }));
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
