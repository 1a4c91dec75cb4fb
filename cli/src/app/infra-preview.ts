import { Failed } from "../domain/errors.js";
import { needsPlace, unavailable, type Unavailable } from "../domain/infra/availability.js";
import { cutOffText } from "../domain/infra/cut-off.js";
import { oldPluginText } from "../domain/infra/engine-troubles.js";
import { isChatter, type Told } from "../domain/infra/events.js";
import type { Loss } from "../domain/infra/losses.js";
import type { Change, Preview } from "../domain/infra/preview.js";
import { called } from "../domain/infra/resource.js";
import type { Progress } from "../ports.js";
import type { PulumiProject } from "../ports/infra.js";
import { isNewStack, requireConfigured, typed, valueOf, type InfraTools } from "./infra-stack.js";

/** What an update would do. */
export interface InfraPreview {
  stack: string;
  /** Where the stack's state lies. */
  state: string;
  changes: readonly Change[];
  same: number;
  /** Whether it was asked what the provider can place: not without a token. */
  asked: boolean;
  unavailable: readonly Unavailable[];
}

/** Says what `gpuctl infra up` would do, and what of it the provider cannot place right now. A stack that is new is made, empty. */
export async function infraPreview(tools: InfraTools, stack: string): Promise<InfraPreview> {
  const project = await tools.pulumi.project();
  requireConfigured(project, stack);
  const preview = await previewed(tools, project, stack);
  const { asked, missing } = await placeable(tools, preview.changes);
  return { stack, state: project.backend, changes: preview.changes, same: preview.same, asked, unavailable: missing };
}

async function previewed(tools: InfraTools, project: PulumiProject, stack: string): Promise<Preview> {
  const { pulumi, progress } = tools;
  const again = typed("preview", stack);
  progress.emit({ kind: "step", text: `looking what the stack ${stack} would change` });
  let outcome = await pulumi.preview(stack);
  if (isNewStack(outcome)) {
    await valueOf(pulumi, await pulumi.create(stack), stack, again);
    progress.emit({ kind: "step", text: `the stack ${stack} is new; its state is in ${project.backend}` });
    outcome = await pulumi.preview(stack);
  }
  const preview = await valueOf(pulumi, outcome, stack, again);
  for (const diagnostic of preview.diagnostics)
    if (diagnostic.severity === "warning" && !isChatter(diagnostic)) tell(progress, { kind: "diagnostic", diagnostic });
  return preview;
}

/** Asks the provider only when a server would be made or get another type, and only with a token. */
async function placeable(
  { hcloud, progress }: InfraTools,
  changes: readonly Change[],
): Promise<{ asked: boolean; missing: readonly Unavailable[] }> {
  if (!changes.some(needsPlace)) return { asked: false, missing: [] };
  if (hcloud === null) {
    const text =
      "HCLOUD_TOKEN is not set (the secret hcloud:token is for Pulumi alone): nobody asks whether the provider can place the servers now";
    progress.emit({ kind: "step", text });
    return { asked: false, missing: [] };
  }
  return { asked: true, missing: unavailable(changes, await hcloud.serverTypes()) };
}

/** What Pulumi tells while it works, in our own lines. */
export function tell(progress: Progress, told: Told): void {
  if (told.kind === "step") progress.emit(told);
  if (told.kind !== "diagnostic") return;
  const { about, severity, message } = told.diagnostic;
  const text = oldPluginText(message) ?? cutOffText(message) ?? (about === null ? message : `${about.name}: ${message}`);
  progress.emit({ kind: severity === "warning" ? "warning" : "step", text });
}

/** Throws Failed naming what the provider cannot place, and what it can in its place. */
export function requirePlaceable(missing: readonly Unavailable[], stack: string): void {
  const [first] = missing;
  if (first === undefined) return;
  const others = missing.length === 1 ? "" : ` and ${missing.length - 1} more`;
  throw new Failed(`${first.server}${others} cannot be had now`, {
    because: missing.map(({ server, because }) => `${server}: ${because}`).join("; "),
    nextSteps: [
      ...missing.map(({ server, alternatives }) =>
        alternatives.length === 0
          ? `${server}: nothing like it can be had; try later`
          : `${server}: ${alternatives.join(", or ")}`,
      ),
      `change it in Pulumi.${stack}.yaml, then ${typed("up", stack)}`,
    ],
    data: { unavailable: missing },
  });
}

/** `- server web (4711): what is on it is lost`: one line of what would be lost. */
export function lossLine(loss: Loss): string {
  const { op, id, because, consequence, protected: kept } = loss;
  const sign = op === "replace" ? "-+" : op === "update" ? "~ " : "- ";
  const number = id === null ? "" : ` (${id})`;
  const reason = op === "replace" ? `, made anew because of ${because.join(", ") || "its inputs"}` : "";
  return `${sign} ${called(loss)}${number}${reason}: ${consequence}${kept ? "   protected" : ""}`;
}
