import type { HostResult } from "./result.js";

export interface HostFinding {
  level: "warning" | "blocker";
  /** Short and stable, for scripts. */
  code: string;
  what: string;
  nextSteps: readonly string[];
}

/** What of a host is not as its preparation left it, or never was prepared. */
export function judgeHost(
  node: string,
  seen: { left: HostResult | null; now: HostResult | null; script: string },
): HostFinding[] {
  const { left, now, script } = seen;
  const prepare = `gpuctl host prepare ${node}`;
  if (left === null || now === null) {
    const what =
      left === null && now === null ? "the host was not prepared" : "what the preparation left on the host cannot be read";
    return [{ level: "blocker", code: "host-not-prepared", what, nextSteps: [prepare] }];
  }
  const next = (step: string | null): string[] => (step === null ? [prepare] : [step, prepare]);
  const findings: HostFinding[] = [];
  if (left.state === "rebooting") {
    const what = "a restart is under way, or did not come";
    findings.push({ level: "blocker", code: "host-rebooting", what, nextSteps: [prepare] });
  } else if (left.state !== "prepared") {
    const what = `the preparation ended with ${left.state} at ${left.step}: ${left.reason ?? "no reason was given"}`;
    findings.push({ level: "blocker", code: `host-${left.state}`, what, nextSteps: next(left.nextStep) });
  }
  if (now.state !== "prepared") {
    findings.push({
      level: "blocker",
      code: "host-changed",
      what: now.reason ?? "it is not as it was",
      nextSteps: next(now.nextStep),
    });
  }
  findings.push(...changes(node, left, now));
  if (left.script !== script) {
    const what = "another version of the preparation script prepared it";
    findings.push({ level: "warning", code: "host-script-older", what, nextSteps: [prepare] });
  }
  return findings;
}

function changes(node: string, left: HostResult, now: HostResult): HostFinding[] {
  const findings: HostFinding[] = [];
  const gone = left.gpus.filter(({ uuid }) => !now.gpus.some((gpu) => gpu.uuid === uuid));
  if (left.state === "prepared" && gone.length > 0) {
    const what = `GPUs that were there are gone: ${gone.map(({ name, uuid }) => `${name} ${uuid}`).join(", ")}`;
    findings.push({ level: "blocker", code: "host-gpu-gone", what, nextSteps: ["nvidia-smi -L", "dmesg | grep -i nvrm"] });
  }
  const versions = (["driver", "docker", "toolkit", "kernel"] as const).filter(
    (part) => left.state === "prepared" && left[part] !== now[part],
  );
  if (versions.length > 0) {
    const what = versions.map((part) => `${part} was ${left[part] ?? "absent"} and is ${now[part] ?? "absent"}`).join("; ");
    findings.push({ level: "warning", code: "host-versions", what, nextSteps: [`gpuctl host prepare ${node}`] });
  }
  return findings;
}
