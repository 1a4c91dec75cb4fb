import type { ServiceName } from "../../domain/names.js";
import type { HealthReport } from "../health.js";
import type { ServiceStatus, StatusReport } from "../status.js";
import { nodesText } from "./nodes-text.js";
import { processText } from "./process-text.js";
import { blocks, section, shortDuration, table } from "./table.js";

/** What runs and what is wrong, for people. @param verbose  with all that was seen of each node */
export function statusText(report: StatusReport, verbose = false): string {
  const { release, manager } = report;
  const serving = release === null ? "nothing deployed" : `${release.id} by ${release.author} at ${release.createdAt}`;
  const back = release?.rollbackOf == null ? "" : `, a rollback to ${release.rollbackOf}`;
  return blocks(
    `Environment ${report.environment} (${report.target}): ${serving}${back}\n${report.target === "process" ? "Keeper" : "Proxy"}: ${manager.detail}\nLease: ${leaseText(report)}`,
    table(["service", "process", "traffic", "health", "device", "restarts", "in flight"], report.services.map(stateOf)),
    table(["service", "address", "model", "instance"], report.services.map(placeOf)),
    nodesText(report.nodes, verbose),
    section(
      "Warm for a rollback",
      report.warm.map(
        ({ instance, stopsInMs }) => `${instance}${stopsInMs === null ? "" : `, stops in ${shortDuration(stopsInMs)}`}`,
      ),
    ),
    section("Behind the services", report.standbys),
    section(report.destroyed === null ? "Wrong" : "Stopped on purpose", report.problems),
    section("Drift", report.drift),
    nextStep(report),
  );
}

function nextStep(report: StatusReport): string {
  const { healthy, release, lease, destroyed } = report;
  if (healthy) return "Everything is as the release says.";
  if (lease?.state === "live") return `Next: wait for ${lease.command} to end; it is at work.`;
  if (destroyed !== null) return "Next: gpuctl deploy starts it again.";
  if (release === null) return "Next: gpuctl deploy";
  const silent = report.nodes.filter((each) => each.silent !== null).map(({ node }) => node);
  const others = report.nodes.filter((each) => each.silent === null).map(({ node }) => node);
  if (silent.length > 0)
    return `Next: gpuctl doctor looks at ${silent.join(", ")}; gpuctl repair --hosts ${others.join(",")} puts right the others meanwhile.`;
  const [cutShort] = report.unfinished;
  if (cutShort !== undefined && report.nodes.length > 1)
    return `Next: gpuctl deploy --continue finishes ${cutShort.id} on the hosts that lack it; gpuctl repair settles it by what serves.`;
  if (report.unencrypted.length === report.problems.length)
    return "Next: see that the ACME server and the node reach each other (ports 80 and 443, the name in DNS); the proxy asks again by itself.";
  const standIn = onlyDegraded(report);
  if (standIn !== null)
    return `Next: gpuctl logs ${standIn} shows what happened. It returns to its device by itself once that is right.`;
  return "Next: gpuctl repair puts right what has drifted; gpuctl logs shows why.";
}

/** A service that answers, though not as it should, when nothing else is wrong: repair has nothing to do for it. */
function onlyDegraded({ services, drift, problems }: StatusReport): ServiceName | null {
  const degraded = services.filter(({ status }) => status === "degraded");
  return drift.length === 0 && degraded.length === problems.length ? (degraded[0]?.service ?? null) : null;
}

function leaseText({ lease }: StatusReport): string {
  return lease === null ? "free" : `${lease.command} of ${lease.owner}, pid ${lease.pid}, since ${lease.since} (${lease.state})`;
}

function stateOf(row: ServiceStatus): readonly string[] {
  const device = row.device === null ? "-" : row.proof === null ? row.device : `${row.device} (${row.proof})`;
  return [
    row.service,
    processText(row.process),
    row.traffic ?? "-",
    row.status ?? "-",
    device,
    row.restarts === null ? "-" : String(row.restarts),
    row.inflight === null ? "-" : String(row.inflight),
  ];
}

function placeOf(row: ServiceStatus): readonly string[] {
  return [row.service, row.addresses.join(", "), answeringModel(row), row.instance ?? "-"];
}

const answeringModel = ({ model, fallback }: { model: string | null; fallback: boolean }): string =>
  modelName(model) + (fallback ? " (fallback)" : "");

/** The model without its owner, revision and whatever else tells vector spaces apart: `--json` and the release have them. */
function modelName(model: string | null): string {
  return model?.split(/[@|]/)[0]?.split("/").at(-1) ?? "-";
}

/** What the services say about themselves, for people. */
export function healthText(report: HealthReport): string {
  const rows = report.services.map(({ service, node, status, device, model, fallback, address, elapsedMs, reason }) => [
    node === undefined ? service : `${service} on ${node}`,
    status,
    device ?? "-",
    answeringModel({ model, fallback }),
    address,
    `${elapsedMs} ms`,
    reason ?? "",
  ]);
  return blocks(
    table(["service", "status", "device", "model", "address", "answered in", "reason"], rows),
    report.healthy ? "" : "Next: gpuctl status says what runs and what is wrong.",
  );
}
