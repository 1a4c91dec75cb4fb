import { readlinkSync } from "node:fs";
import { LinuxProcessTable } from "../state/process-identity.js";
import type { OwnMachine } from "./lease-report.js";

/** This machine as leases know it. Containers of one machine share its boot id and not its pids, so the namespace belongs to it. */
export function ownMachine(): OwnMachine {
  const processes = new LinuxProcessTable();
  return { id: `${processes.bootId} ${readlinkSync("/proc/self/ns/pid")}`, processes };
}
