import { Failed, PreflightRefused } from "../domain/errors.js";
import type { InstanceId } from "../domain/names.js";
import { ms } from "../domain/units.js";
import type { Context, HttpResponse } from "../ports.js";
import { refusal } from "./service-call.js";

export const indexBase = "/api/v1/vector-store";

type Asking = Pick<Context, "driver" | "clock" | "progress" | "signal">;
type Fields = Readonly<Record<string, unknown>>;

const patience = ms(60_000);
const pollEvery = ms(300);

/** The index instance that answers public traffic; null when none runs. */
export async function servingIndex({ driver }: Pick<Context, "driver">): Promise<InstanceId | null> {
  const { instances } = await driver.observe();
  const open = instances.find(
    ({ service, traffic, process }) => service === "index" && traffic === "open" && process.state === "running",
  );
  return open?.id ?? null;
}

/** As `servingIndex`; throws PreflightRefused when none runs, with the command that stopped it when one is at work. */
export async function requireIndex(asking: Pick<Context, "driver" | "leases">): Promise<InstanceId> {
  const id = await servingIndex(asking);
  if (id !== null) return id;
  const holder = await asking.leases.holder();
  if (holder?.state === "live") {
    throw new PreflightRefused("no index is running in this environment while another command changes it", {
      because: `${holder.owner} runs \`gpuctl ${holder.command}\` (pid ${String(holder.pid)}, since ${holder.since})`,
      nextSteps: ["wait for it, then run this again", "gpuctl lock status"],
      data: { holder },
    });
  }
  throw new PreflightRefused("no index is running in this environment", { nextSteps: ["gpuctl status", "gpuctl deploy index"] });
}

/** Asks an instance on its private socket. Throws Failed with its own words for anything but 200 and 202. */
export async function askIndex(asking: Asking, id: InstanceId, path: string, body?: Fields): Promise<HttpResponse> {
  const request = { method: body === undefined ? ("GET" as const) : ("POST" as const), path, timeout: patience };
  const answer = await asking.driver.request(id, body === undefined ? request : { ...request, body }, asking.signal);
  if (answer.status === 200 || answer.status === 202) return answer;
  throw refusal({ service: "index", path }, answer);
}

/** Starts a job of the index and follows it to its end, showing how far it is; gives back its result. */
export async function runIndexJob(asking: Asking, id: InstanceId, path: string, body: Fields = {}): Promise<Fields> {
  let job = (await askIndex(asking, id, path, { ...body, wait: false })).body as Job;
  while (job.state === "waiting" || job.state === "running") {
    if (job.phase !== "") {
      const total = job.of > 0 ? job.of : null;
      asking.progress.emit({ kind: "amount", label: `${job.kind}: ${job.phase}`, done: job.done, total, unit: "steps" });
    }
    await asking.clock.sleep(pollEvery, asking.signal);
    job = (await askIndex(asking, id, `${indexBase}/jobs/${job.job}`)).body as Job;
  }
  if (job.state === "done") return job.result ?? {};
  throw new Failed(`the index could not finish: ${job.kind}`, {
    because: job.error?.replace(/\.$/, "") ?? "it did not say why",
    nextSteps: ["gpuctl logs index"],
  });
}

interface Job {
  job: string;
  kind: string;
  state: "waiting" | "running" | "done" | "failed";
  phase: string;
  done: number;
  of: number;
  result: Fields | null;
  error: string | null;
}
