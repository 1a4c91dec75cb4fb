import type { AddResult } from "../host-add.js";
import type { AddedToStack } from "../host-add-to-stack.js";
import type { PrepareResult } from "../host-prepare.js";
import type { VerifyResult } from "../host-verify.js";
import type { HostResult } from "../../domain/host/result.js";

export function addedText({ node, environment, file, trusted, nextSteps }: AddResult): string {
  const key =
    trusted === null ? "its host key was known already" : `its host key is trusted now: ${trusted.type} ${trusted.fingerprint}`;
  return [`${node} was added to environment ${environment} in ${file}; ${key}.`, ...nextSteps.map((step) => `  ${step}`)].join(
    "\n",
  );
}

export function addedToStackText({ node, stack, trusted, nextSteps }: AddedToStack): string {
  const what = `${node} stands in the configuration of the stack ${stack}; its host key is pinned: ${trusted.type} ${trusted.fingerprint}.`;
  return [what, ...nextSteps.map((step) => `  ${step}`)].join("\n");
}

export function preparedText({ node, state, changed, restarted, result }: PrepareResult): string {
  const what = changed.length === 0 ? "nothing had to be changed" : `changed: ${changed.join(", ")}`;
  const how = restarted ? "; restarted and verified" : "";
  if (state !== "prepared")
    return `${node}: ${what}; ${result.reason ?? "a restart is needed"}\n  next: ${result.nextStep ?? "reboot"}`;
  return `${node} is prepared: ${describe(result)} (${what}${how}).`;
}

export function verifiedText({ node, findings, now }: VerifyResult): string {
  if (findings.length === 0 && now !== null) return `${node} is as it was prepared: ${describe(now)}.`;
  return findings
    .map(({ level, what, nextSteps }) =>
      [`${level === "blocker" ? "✗" : "!"} ${node}: ${what}`, ...nextSteps.map((step) => `    ${step}`)].join("\n"),
    )
    .join("\n");
}

function describe({ docker, driver, toolkit, gpus, kernel }: HostResult): string {
  const cards = gpus.map(({ name, memory }) => (memory === null ? name : `${name} ${memory} MiB`));
  const gpu = driver === null ? "no GPU" : `driver ${driver}, toolkit ${toolkit ?? "absent"}, ${cards.join(", ")}`;
  return `Docker ${docker ?? "absent"}, ${gpu}, kernel ${kernel}`;
}
