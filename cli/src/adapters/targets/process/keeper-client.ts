import type { Drained } from "../../../domain/drained.js";
import { Failed, TargetUnreachable } from "../../../domain/errors.js";
import type { InstanceId, ServiceName } from "../../../domain/names.js";
import { type Milliseconds, ms } from "../../../domain/units.js";
import { type Answer, ask, NoAnswer } from "./line-socket.js";

export interface KeeperHello {
  protocol: number;
  pid: number;
  startTime: number;
  bootId: string;
  version: string;
}

/** One instance in the keeper's `list`. */
export interface KeptInstance {
  id: InstanceId;
  service: ServiceName;
  release: string;
  slot: string;
  process: { state: string; pid?: number | null; startTime?: number | null };
  desired: "started" | "open" | "closed" | "stopped";
  traffic: string;
  restarts: number;
  inflight: number | null;
  stopsInMs: number | null;
  lastExit: { code: number | null; signal: string | number | null } | null;
}

export interface KeptListener {
  service: ServiceName;
  host: string;
  port: number;
  bound: boolean;
}

export interface KeeperList {
  bootId: string;
  listeners: readonly KeptListener[];
  instances: readonly KeptInstance[];
}

/** The keeper said no; `code` is its own word for why. */
export class KeeperRefused extends Failed {
  readonly code: string;

  constructor(code: string, message: string, because: string, nextSteps: readonly string[]) {
    super(message, { because, nextSteps, data: { code } });
    this.code = code;
  }
}

/** Talks to the keeper, one connection a question. Mutations carry the lease's token; an older one than the keeper has seen is refused. */
export class KeeperClient {
  readonly #socket: string;

  constructor(socket: string) {
    this.#socket = socket;
  }

  /** Null when nothing answers; throws NoAnswer `late` when something is there and hangs. */
  async hello(deadline: Milliseconds = ms(3000)): Promise<KeeperHello | null> {
    try {
      return (await ask(this.#socket, { op: "hello" }, deadline)) as unknown as KeeperHello;
    } catch (error) {
      if (error instanceof NoAnswer && error.kind !== "late") return null;
      throw error;
    }
  }

  async list(deadline: Milliseconds = ms(5000)): Promise<KeeperList> {
    return (await this.#ask("list", {}, deadline)) as unknown as KeeperList;
  }

  async listen(token: number, service: ServiceName, host: string, port: number): Promise<void> {
    await this.#ask("listen", { token, service, host, port }, ms(10_000));
  }

  async start(token: number, id: InstanceId): Promise<void> {
    await this.#ask("start", { token, id }, ms(15_000));
  }

  async open(token: number, id: InstanceId): Promise<void> {
    await this.#ask("open", { token, id }, ms(15_000));
  }

  async close(token: number, id: InstanceId, drain: Milliseconds): Promise<Drained> {
    const answer = await this.#ask("close", { token, id, drainMs: drain }, ms(drain + 15_000));
    return { drained: answer["drained"] !== false, waitedMs: Number(answer["waitedMs"] ?? 0) };
  }

  async stop(token: number, id: InstanceId, after: Milliseconds | null): Promise<void> {
    await this.#ask("stop", { token, id, afterMs: after }, ms(30_000));
  }

  async suspend(
    token: number,
    id: InstanceId,
    times: { drain: Milliseconds; restoreAfter: Milliseconds },
    operator: { pid: number; startTime: number } | null,
  ): Promise<void> {
    const values = { token, id, drainMs: times.drain, restoreAfterMs: times.restoreAfter, operator };
    await this.#ask("suspend", values, ms(times.drain + 45_000));
  }

  async forget(token: number, id: InstanceId): Promise<void> {
    await this.#ask("forget", { token, id }, ms(10_000));
  }

  async shutdown(token: number, keepInstances: boolean): Promise<void> {
    await this.#ask("shutdown", { token, keepInstances }, ms(45_000));
  }

  async #ask(op: string, values: Readonly<Record<string, unknown>>, deadline: Milliseconds): Promise<Answer> {
    let answer: Answer;
    try {
      answer = await ask(this.#socket, { op, ...values }, deadline);
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error;
      throw new TargetUnreachable("the keeper of this environment does not answer", {
        because: `${op}: ${error.message}`,
        nextSteps: ["gpuctl status", "gpuctl repair, which starts a new keeper and adopts what runs"],
        cause: error,
      });
    }
    if (answer["ok"] === true) return answer;
    throw refused(op, values, answer);
  }
}

function refused(op: string, values: Readonly<Record<string, unknown>>, answer: Answer): KeeperRefused {
  const code = typeof answer["error"] === "string" ? answer["error"] : "refused";
  const said = typeof answer["message"] === "string" && answer["message"] !== "" ? answer["message"] : code;
  if (code === "stale-token") {
    return new KeeperRefused(code, "the lease of this environment was lost", `the keeper has seen a newer one (${said})`, [
      "gpuctl audit",
      "gpuctl status",
    ]);
  }
  if (code === "port-taken") {
    const by = typeof answer["by"] === "string" ? answer["by"] : "another process";
    const address = `${String(values["host"])}:${String(values["port"])}`;
    return new KeeperRefused(code, `${address} is taken`, `${by} listens there`, [
      "end it, or choose another port for the service in gpuctl.yaml",
    ]);
  }
  const subject = typeof values["id"] === "string" ? ` ${values["id"]}` : "";
  return new KeeperRefused(code, `the keeper did not ${op}${subject}`, said, ["gpuctl status", "gpuctl logs"]);
}
