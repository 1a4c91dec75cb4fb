import type { InstanceId } from "../../cli/src/domain/names.js";
import type { InstanceProcess, InstanceSpec } from "../../cli/src/ports.js";

/** One process of a service, as far as a deploy can tell. */
export interface FakeInstance {
  is: InstanceSpec;
  secrets: Readonly<Record<string, string>>;
  process: InstanceProcess;
  traffic: "open" | "paused" | "closed";
  restarts: number;
  startedAt: number;
  openedAt: number | null;
  stopsAt: number | null;
  /** Stopped first: when the machine brings it back by itself. */
  restoresAt: number | null;
}

export interface StoredItem {
  id: string;
  text: string | null;
}

/** Peak memory of every fake service. */
export const memoryOfOneMiB = 300;

/** The machine that outlives every gpuctl process: what runs, what is staged, who writes to the index. */
export class Machine {
  readonly instances = new Map<InstanceId, FakeInstance>();
  readonly wheels = new Set<string>();
  readonly missingModels = new Set<string>();
  /** Models whose files were changed after they were fetched. */
  readonly editedModels = new Set<string>();
  /** Items of the index, and which of them each generation holds. */
  readonly items: StoredItem[] = [];
  readonly generations = new Map<string, Set<string>>();
  writer: InstanceId | null = null;
  managerRuns = false;
  /** What of the manager was made from other settings than those of the project file, such as `proxy of one`. */
  outOfDate: string[] = [];
  /** Why HTTPS does not answer, whenever it is looked at. */
  unencrypted: () => readonly string[] = () => [];
  memoryMiB = 8000;
  highestToken = 0;
  nextPid = 100;

  running(id: InstanceId): FakeInstance | null {
    const instance = this.instances.get(id);
    return instance?.process.state === "running" ? instance : null;
  }

  /** What running instances leave: each holds what its warm-up measures. */
  get freeMiB(): number {
    return this.memoryMiB - this.runningIds().length * memoryOfOneMiB;
  }

  /** Ids of the instances that answer public traffic. */
  serving(): readonly InstanceId[] {
    return [...this.instances.values()]
      .filter((instance) => instance.process.state === "running" && instance.traffic === "open")
      .map((instance) => instance.is.id)
      .sort();
  }

  runningIds(): readonly InstanceId[] {
    return [...this.instances.values()].filter(({ process }) => process.state === "running").map(({ is }) => is.id);
  }

  /** kill -9 of an instance; its locks are free at once. */
  kill(id: InstanceId): void {
    const instance = this.instances.get(id);
    if (instance === undefined) throw new Error(`no instance ${id}`);
    instance.process = { state: "exited", code: null, signal: "SIGKILL" };
    if (this.writer === id) this.writer = null;
  }

  reboot(): void {
    for (const instance of this.instances.values()) {
      instance.process = { state: "stopped-by-reboot" };
      instance.traffic = "closed";
    }
    this.managerRuns = false;
    this.writer = null;
  }

  /** A successor answers: nothing of its service comes back by itself any more. */
  callOff(service: string): void {
    for (const instance of this.instances.values()) if (instance.is.service === service) instance.restoresAt = null;
  }

  /** Ends what was to be stopped by now, and brings back what was to make room only for a while. */
  passTimeTo(now: number): void {
    for (const instance of this.instances.values())
      if (instance.restoresAt !== null && instance.restoresAt <= now) this.#restore(instance, now);
    for (const instance of this.instances.values())
      if (instance.stopsAt !== null && instance.stopsAt <= now && instance.traffic !== "open") this.end(instance);
  }

  #restore(instance: FakeInstance, now: number): void {
    const { service } = instance.is;
    for (const rival of this.instances.values())
      if (rival !== instance && rival.is.service === service && rival.openedAt === null && rival.process.state === "running")
        this.end(rival);
    if (instance.process.state !== "running") {
      this.nextPid += 1;
      instance.process = { state: "running", pid: this.nextPid };
      instance.startedAt = now;
    }
    instance.openedAt = now;
    instance.traffic = "open";
    if (service === "index") this.writer ??= instance.is.id;
    this.callOff(service);
  }

  end(instance: FakeInstance): void {
    instance.process = { state: "stopped" };
    instance.traffic = "closed";
    instance.stopsAt = null;
    if (this.writer === instance.is.id) this.writer = null;
  }
}
