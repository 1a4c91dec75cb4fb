import type { InstanceProcess } from "../../ports.js";

/** What a process does, for people. */
export function processText(process: InstanceProcess | null): string {
  if (process === null) return "absent";
  switch (process.state) {
    case "running":
      return `pid ${process.pid}`;
    case "exited":
      return process.signal === null ? `exited ${process.code ?? "?"}` : `killed by ${process.signal}`;
    case "stopped-by-reboot":
      return "stopped by reboot";
    case "stopped":
      return "stopped";
  }
}
