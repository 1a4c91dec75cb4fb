import type { ReleaseId, Slot } from "../../../domain/names.js";
import { ms } from "../../../domain/units.js";
import type { InstanceObservation, InstanceProcess, Observation } from "../../../ports.js";
import { isRunning, type ProcessTable } from "../../state/process-identity.js";
import { type Desired, type DesiredInstance, readDesired, readKeeperIdentity } from "./desired-file.js";
import type { InstanceFiles } from "./instance-files.js";
import type { KeeperClient, KeeperHello, KeeperList, KeptInstance } from "./keeper-client.js";
import type { LaunchDocument } from "./launch-document.js";
import { type Answer, ask } from "./line-socket.js";
import { collides, listeningPorts, socketOwners } from "./listening-ports.js";
import type { StateLayout } from "./state-layout.js";

export interface Observer {
  layout: StateLayout;
  keeper: KeeperClient;
  files: InstanceFiles;
  processes: ProcessTable;
}

/** Reading must stay fast when something hangs. */
const keeperDeadline = ms(1500);
const controlDeadline = ms(150);

/** What runs, asked from the keeper, or pieced together from sockets, processes and files when there is none. Changes nothing. */
export async function observe(observer: Observer): Promise<Observation> {
  const answer = await askKeeper(observer.keeper);
  return answer === null ? withoutKeeper(observer) : fromKeeper(answer.hello, answer.list);
}

async function askKeeper(keeper: KeeperClient): Promise<{ hello: KeeperHello; list: KeeperList } | null> {
  try {
    const hello = await keeper.hello(keeperDeadline);
    return hello === null ? null : { hello, list: await keeper.list(keeperDeadline) };
  } catch {
    return null;
  }
}

function fromKeeper(hello: KeeperHello, list: KeeperList): Observation {
  const detail = `pid ${hello.pid.toString()}, version ${hello.version}`;
  return { manager: { state: "running", detail }, instances: list.instances.map(kept), listeners: list.listeners };
}

function kept(instance: KeptInstance): InstanceObservation {
  const { id, service, restarts, inflight, stopsInMs } = instance;
  const process = keptProcess(instance);
  const running = process.state === "running";
  return {
    id,
    service,
    release: instance.release as ReleaseId,
    slot: instance.slot as Slot,
    process,
    traffic: running ? trafficOf(instance.traffic, instance.desired) : "closed",
    restarts,
    inflight: running ? inflight : null,
    stopsInMs,
  };
}

function keptProcess({ process, lastExit, desired }: KeptInstance): InstanceProcess {
  if (process.state === "running" && typeof process.pid === "number") return { state: "running", pid: process.pid };
  if (process.state === "stopped-by-reboot") return { state: "stopped-by-reboot" };
  return desired === "stopped" ? { state: "stopped" } : exited(lastExit);
}

function exited(last: { code: number | null; signal: string | number | null } | null): InstanceProcess {
  return { state: "exited", code: last?.code ?? null, signal: last?.signal == null ? null : String(last.signal) };
}

/** An instance's own word counts; one that cannot be asked is taken to do what it was told. */
function trafficOf(said: unknown, desired: DesiredInstance["desired"]): InstanceObservation["traffic"] {
  if (said === "open" || said === "paused" || said === "closed") return said;
  return desired === "open" ? "open" : desired === "closed" ? "paused" : "closed";
}

async function withoutKeeper(observer: Observer): Promise<Observation> {
  const { layout, files } = observer;
  const [desired, documents, identity] = await Promise.all([
    readDesired(layout.desiredFile),
    files.list(),
    readKeeperIdentity(layout.keeperFile),
  ]);
  const seen = await Promise.all(documents.map((document) => lookAt(observer, document, desired)));
  const instances = seen.filter((each) => each !== null);
  const hangs = identity !== null && identity.bootId === observer.processes.bootId && isRunning(observer.processes, identity);
  const detail = hangs ? `pid ${identity.pid.toString()} exists and does not answer` : "no keeper runs";
  return { manager: { state: "absent", detail }, instances, listeners: await boundListeners(desired, instances) };
}

async function lookAt(observer: Observer, document: LaunchDocument, desired: Desired): Promise<InstanceObservation | null> {
  const entry = desired.instances.find((each) => each.id === document.id) ?? null;
  const answer = await ask(observer.layout.control(document.id), { op: "hello" }, controlDeadline).catch((): Answer => ({}));
  const process = processOf(observer, document, entry, answer, desired.bootId);
  if (process === null) return null;
  const running = process.state === "running";
  return {
    id: document.id,
    service: document.service,
    release: document.release as ReleaseId,
    slot: document.slot,
    process,
    traffic: running ? trafficOf(answer["traffic"], entry?.desired ?? "started") : "closed",
    restarts: entry?.restarts ?? 0,
    inflight: running && typeof answer["inflight"] === "number" ? answer["inflight"] : null,
    stopsInMs: running && typeof entry?.stopAtMs === "number" ? Math.max(0, entry.stopAtMs - observer.processes.bootMs()) : null,
  };
}

/** Null for an instance that nobody asked for and that does not run: its document is only kept for its log. */
function processOf(
  { processes }: Observer,
  document: LaunchDocument,
  entry: DesiredInstance | null,
  answer: Answer,
  bootId: string,
): InstanceProcess | null {
  if (answer["ok"] === true && answer["id"] === document.id && typeof answer["pid"] === "number") {
    return { state: "running", pid: answer["pid"] };
  }
  if (entry === null) return null;
  if (entry.desired === "stopped") return { state: "stopped" };
  if (bootId !== processes.bootId || entry.stoppedByReboot === true) return { state: "stopped-by-reboot" };
  const { pid, startTime } = entry;
  if (pid !== null && startTime !== null && isRunning(processes, { pid, startTime })) return { state: "running", pid };
  return exited(entry.lastExit);
}

/** A public socket outlives the keeper inside the instances; /proc tells whether one of ours still listens. */
async function boundListeners(desired: Desired, instances: readonly InstanceObservation[]): Promise<Observation["listeners"]> {
  const ours = new Set(instances.flatMap(({ process }) => (process.state === "running" ? [process.pid] : [])));
  if (ours.size === 0) return desired.listeners.map((listener) => ({ ...listener, bound: false }));
  const ports = await listeningPorts();
  const owners = await socketOwners(new Set(ports.map((port) => port.inode)));
  return desired.listeners.map((listener) => {
    const matching = ports.filter((port) => port.port === listener.port && collides(listener.host, port.address));
    const bound = matching.some((port) => owners.get(port.inode)?.some((pid) => ours.has(pid)) === true);
    return { ...listener, bound };
  });
}
