/** Processes as this machine sees them. */
import { readdirSync, readFileSync } from "node:fs";

/** Field 22 of `/proc/<pid>/stat`; null when there is no such process. */
export function startTime(pid: number): string | null {
  const line = read(`/proc/${pid}/stat`);
  return line === null ? null : (line.slice(line.lastIndexOf(")") + 2).split(" ")[19] ?? null);
}

/**
 * The first process of the namespace that a child of ours was started to make: the nearest descendant whose innermost pid is 1.
 * Null while there is none yet.
 */
export function innerInit(pid: number): number | null {
  for (const child of childrenOf(pid)) {
    const inner = /^NSpid:.*\s(\d+)$/m.exec(read(`/proc/${child}/status`) ?? "")?.[1];
    const found = inner === "1" ? child : innerInit(child);
    if (found !== null) return found;
  }
  return null;
}

/** Its children; none when it is gone. */
export function childrenOf(pid: number): number[] {
  let threads: string[] = [];
  try {
    threads = readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
  return threads.flatMap((thread) =>
    (read(`/proc/${pid}/task/${thread}/children`) ?? "")
      .split(" ")
      .filter((text) => text !== "")
      .map(Number),
  );
}

function read(file: string): string | null {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return null;
  }
}
