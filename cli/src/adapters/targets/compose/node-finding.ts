import type { DoctorFinding } from "../../../domain/doctor/finding.js";
import type { Finding } from "../../../ports.js";

/** Doctor's finding in a report of several nodes. */
export function onNode(node: string, { level, code, what, because, nextSteps }: DoctorFinding): Finding {
  const why = because === undefined ? {} : { because: `${node}: ${because}` };
  return {
    level,
    code,
    what: `${node}: ${what}`,
    ...why,
    ...(nextSteps && { nextSteps: nextSteps.map((step) => here(node, step)) }),
  };
}

/** What is typed on the host says so. */
export const here = (node: string, step: string): string =>
  /^gpuctl |gpuctl\.yaml/.test(step) ? step : `${step}   # on ${node}`;
