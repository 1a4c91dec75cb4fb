import type { HealthMoment } from "../watch-health.js";

/** One line for each service that changed: `2026-11-21T14:30:00.000Z embedder of gpu-1 degraded on cpu at http://…: the reason`. */
export function changeLines({ at, changed }: HealthMoment): readonly string[] {
  return changed.map(({ service, node, status, device, address, reason }) => {
    const who = node === undefined ? service : `${service} of ${node}`;
    const where = device === null ? "" : ` on ${device}`;
    return `${at} ${who} ${status}${where} at ${address}${reason === null ? "" : `: ${reason}`}`;
  });
}

/** Takes the place of what was printed before: that many lines up, everything below removed. */
export function redrawn(text: string, linesBefore: number): string {
  return linesBefore === 0 ? text : `\u001b[${linesBefore}A\u001b[J${text}`;
}
