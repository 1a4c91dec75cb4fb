import { createServer } from "node:net";
import type { ServiceName } from "../../../domain/names.js";
import type { Finding } from "../../../ports.js";
import { errorCode } from "../../state/storage-failure.js";
import { collides, listeningPorts, nameProcess, socketOwners } from "./listening-ports.js";

interface Wanted {
  service: ServiceName;
  host: string;
  port: number;
}

/** For each public address: free, held by this environment (`ours`: the pids of its keeper and instances), or taken by a stranger. */
export async function portFindings(wanted: readonly Wanted[], ours: ReadonlySet<number>): Promise<Finding[]> {
  const listening = await listeningPorts();
  const owners = await socketOwners(new Set(listening.map((each) => each.inode)));
  const findings: Finding[] = [];
  // One after the other: trying to bind must not collide with itself.
  for (const { service, host, port } of wanted) {
    const address = `${service} on ${host}:${port.toString()}`;
    const there = listening.filter((each) => each.port === port && collides(host, each.address));
    const pids = there.flatMap((each) => owners.get(each.inode) ?? []);
    if (pids.some((pid) => ours.has(pid))) {
      findings.push({ level: "ok", code: "port-ours", what: `${address} is held by this environment` });
      continue;
    }
    const refusal = await bindingFails(host, port);
    const free: Finding = { level: "ok", code: "port-free", what: `${address} is free` };
    findings.push(refusal === null ? free : taken(address, port, refusal, pids[0] ?? null));
  }
  return findings;
}

function taken(address: string, port: number, code: string, pid: number | null): Finding {
  if (code === "EADDRINUSE") {
    const because =
      pid === null ? "another process listens there; it belongs to another user" : `${nameProcess(pid)} listens there`;
    const nextSteps = [`ss -ltnp 'sport = :${port.toString()}'`, "end it, or choose another port for the service in gpuctl.yaml"];
    return { level: "blocker", code: "port-taken", what: `${address} is taken`, because, nextSteps };
  }
  const because =
    code === "EADDRNOTAVAIL"
      ? "this machine has no such address"
      : code === "EACCES"
        ? "ports below 1024 need privileges this user does not have"
        : `binding fails with ${code}`;
  return {
    level: "blocker",
    code: "port-unusable",
    what: `${address} cannot be bound`,
    because,
    nextSteps: ["choose another `bind` or port in gpuctl.yaml"],
  };
}

/** Binds and lets go at once: what /proc shows is not all that can be in the way. Null when it works. */
function bindingFails(host: string, port: number): Promise<string | null> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", (error) => {
      resolve(errorCode(error));
    });
    server.listen({ host, port, exclusive: true }, () => {
      server.close(() => {
        resolve(null);
      });
    });
  });
}
