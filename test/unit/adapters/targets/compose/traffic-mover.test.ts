import { beforeEach, describe, expect, it } from "vitest";
import type { HostCommands } from "../../../../../cli/src/adapters/targets/compose/host-commands.js";
import type { HostHttp } from "../../../../../cli/src/adapters/targets/compose/host-http.js";
import { TrafficMover, type Movers } from "../../../../../cli/src/adapters/targets/compose/traffic-mover.js";
import { HostLayout } from "../../../../../cli/src/domain/compose/layout.js";
import { closeSteps, openSteps, type TrafficView } from "../../../../../cli/src/domain/compose/traffic.js";
import { Failed, TargetUnreachable } from "../../../../../cli/src/domain/errors.js";
import { ms } from "../../../../../cli/src/domain/units.js";
import { SteppingClock } from "../../../../fakes/stepping-clock.js";

const id = "index-r1-00000001-a";
const upstream = "index-a:8003";
const checkers = ["index-public"];
const closing = closeSteps({ id, upstream }, checkers);
const opening = openSteps({ id }, checkers);
const lost = new TargetUnreachable("the connection to gpu-1 was lost");

/** A host that does what it is told, tells it to its listeners at once, and can be lost. */
class Host {
  readonly clock = new SteppingClock();
  /** Nothing reaches it before this time. */
  silentUntil = 0;
  /** What it does before the connection is lost at this order, and the time that it is lost for. */
  losesAt: { order: string; done: boolean; lasts: number } | null = null;
  /** What Docker says of the container, and the instance of its gate; null for one that is mute. */
  running: boolean | null = true;
  mute = false;
  readonly orders: string[] = [];
  gate = "open";
  leaseIsLost = false;

  #reach(): void {
    if (this.clock.monotonic() < this.silentUntil) throw lost;
  }

  #change(value: string): void {
    this.#reach();
    const loses = this.losesAt?.order === value ? this.losesAt : null;
    if (loses === null || loses.done) {
      this.orders.push(value);
      if (["open", "paused"].includes(value)) this.gate = value;
    }
    if (loses === null) return;
    this.losesAt = null;
    this.silentUntil = this.clock.monotonic() + loses.lasts;
    throw lost;
  }

  mover(): TrafficMover {
    const reached = async <T>(answer: () => T): Promise<T> => {
      this.#reach();
      return answer();
    };
    const view = (): TrafficView | null => {
      const open = this.gate === "open";
      return this.mute || this.running !== true ? null : { open, told: { "index-public": open } };
    };
    const commands = {
      node: "gpu-1",
      rehearsal: null,
      change: async (_: unknown, { args }: { args: readonly string[] }) => this.#change(args.at(-1) ?? ""),
    } as unknown as HostCommands;
    const http = {
      traffic: async () => (this.clock.monotonic() < this.silentUntil ? null : view()),
      upstreams: () => reached(() => [{ address: upstream, requests: 0, fails: 0 }]),
    } as unknown as HostHttp;
    const parts: Movers = {
      commands,
      http,
      layout: new HostLayout("/var/lib/gpuctl", "shop", "prod"),
      clock: this.clock,
      filters: [],
      progress: { emit: () => undefined },
      reader: { runs: () => reached(() => this.running), proxyIsDown: () => reached(() => false) },
    };
    return new TrafficMover(parts);
  }

  carryOut(steps: typeof closing, signal?: AbortSignal): ReturnType<TrafficMover["carryOut"]> {
    const check = async (): Promise<void> => {
      this.#reach();
      if (this.leaseIsLost) throw new Failed("the lease was lost");
    };
    return this.mover().carryOut(steps, ms(30_000), { token: 1, check, release: async () => undefined }, signal);
  }
}

let host: Host;
beforeEach(() => {
  host = new Host();
});

describe("a connection that is lost for a moment", () => {
  it.each([
    ["before the gate's file is written", "paused", false],
    ["when it was written, before anybody could say so", "paused", true],
    ["before the restart policy is set", "no", false],
    ["when it was set", "no", true],
  ])("%s: an instance is closed all the same", async (_, order, done) => {
    host.losesAt = { order, done, lasts: 5000 };
    await expect(host.carryOut(closing)).resolves.toMatchObject({ drained: true });
    expect([...new Set(host.orders)]).toEqual(["paused", "no"]);
  });

  it.each([
    ["before the gate's file is written", "open", false],
    ["when it was written, before a listener is known to have seen it", "open", true],
  ])("%s: an instance is opened all the same, once it is seen", async (_, order, done) => {
    host.gate = "closed";
    host.losesAt = { order, done, lasts: 5000 };
    await host.carryOut(opening);
    expect(host.clock.monotonic()).toBeGreaterThanOrEqual(5000);
    expect([...new Set(host.orders)]).toEqual(["always", "open"]);
  });

  it("does not keep a wait going that was aborted, nor one whose lease is gone", async () => {
    host.losesAt = { order: "open", done: false, lasts: 5000 };
    const abort = new AbortController();
    const opened = expect(host.carryOut(opening, abort.signal)).rejects.toThrow("aborted");
    await host.clock.sleep(ms(1000));
    abort.abort();
    await opened;
    expect(host.orders).toEqual(["always"]);
    host = new Host();
    host.losesAt = { order: "paused", done: true, lasts: 5000 };
    const closed = expect(host.carryOut(closing)).rejects.toThrow("the lease was lost");
    await host.clock.sleep(ms(1000));
    host.leaseIsLost = true;
    await closed;
    expect(host.orders).toEqual(["paused", "paused"]);
  });
});

describe("a connection that is lost for good", () => {
  it("ends an opening with an error: nothing is closed for an instance that nobody has seen", async () => {
    host.gate = "closed";
    host.losesAt = { order: "open", done: true, lasts: 600_000 };
    await expect(host.carryOut(opening)).rejects.toBe(lost);
    expect(host.clock.monotonic()).toBeLessThan(20_000);
  });

  it("ends a closing with an error", async () => {
    host.losesAt = { order: "paused", done: true, lasts: 600_000 };
    await expect(host.carryOut(closing)).rejects.toBe(lost);
    expect(host.clock.monotonic()).toBeLessThan(20_000);
    host = new Host();
    host.losesAt = { order: "no", done: true, lasts: 600_000 };
    await expect(host.carryOut(closing)).rejects.toBe(lost);
  });
});

describe("what a listener saw of an instance that says nothing", () => {
  it("is taken for seen by time when its container runs", async () => {
    host.mute = true;
    await host.carryOut(opening);
    expect(host.clock.monotonic()).toBeGreaterThan(2000);
  });

  it("is not taken for seen while Docker does not say that it runs", async () => {
    host.running = null;
    await expect(host.carryOut(opening)).rejects.toThrow("did not see");
  });

  it("is an error for an opening when its container does not run, and nothing to wait for in a closing", async () => {
    host.running = false;
    await expect(host.carryOut(opening)).rejects.toThrow("cannot be opened");
    await expect(host.carryOut(closing)).resolves.toMatchObject({ drained: true });
  });
});
