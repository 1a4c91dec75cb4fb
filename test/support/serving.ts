/** What a person outside sees: which release's instances answer publicly. */
import type { Sandbox } from "./sandbox.js";

export interface StatusResult {
  release: { id: string; state: string } | null;
  manager: { state: string; detail: string };
  services: {
    service: string;
    instance: string | null;
    release: string | null;
    process: { state: string; pid?: number } | null;
    traffic: string | null;
    restarts: number | null;
    device: string | null;
  }[];
}

export async function status(sandbox: Sandbox): Promise<StatusResult> {
  const { document } = await sandbox.json(["status"]);
  if (document.result === undefined) throw new Error(`status failed: ${JSON.stringify(document.error)}`);
  return document.result as StatusResult;
}

/** Pid of the one instance that answers a service's public traffic. */
export async function servingPid(sandbox: Sandbox, service: string): Promise<number> {
  const seen = (await status(sandbox)).services.find((one) => one.service === service);
  const pid = seen?.process?.pid;
  if (pid === undefined) throw new Error(`${service} does not run: ${JSON.stringify(seen)}`);
  return pid;
}

/** Polls until a condition holds; fails with what was last seen. */
export async function eventually<T>(look: () => Promise<T>, holds: (seen: T) => boolean, withinMs = 20_000): Promise<T> {
  const end = performance.now() + withinMs;
  let last: unknown;
  for (;;) {
    try {
      const seen = await look();
      if (holds(seen)) return seen;
      last = seen;
    } catch (error) {
      last = error;
    }
    if (performance.now() > end)
      throw new Error(`never came true; last seen: ${last instanceof Error ? String(last.stack) : JSON.stringify(last)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
