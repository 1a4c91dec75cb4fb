import { PreflightRefused, UsageError } from "../domain/errors.js";
import { losses } from "../domain/infra/losses.js";
import type { Change } from "../domain/infra/preview.js";
import { unprotectStep } from "../domain/infra/protection-troubles.js";
import { called } from "../domain/infra/resource.js";
import { lossLine, tell } from "./infra-preview.js";
import type { PulumiProject } from "../ports/infra.js";
import { typed, untilStopped, valueOf, type InfraTools } from "./infra-stack.js";

export interface InfraDestroy {
  stack: string;
  deleted: readonly Change[];
  seconds: number;
  /** What is still there, as it is protected. */
  kept: readonly string[];
}

export interface DestroyRequest {
  stack: string;
  /** The stack's name. */
  confirm: string | undefined;
  /** Leaves protected things, and what they need, where they are. */
  keepProtected: boolean;
}

/**
 * Deletes what a stack has made. Without the stack's name as confirmation it only lists what would be lost. With something protected
 * it refuses before anything is deleted: Pulumi itself would notice on the way, when the servers are gone.
 */
export async function infraDestroy(tools: InfraTools, request: DestroyRequest): Promise<InfraDestroy> {
  const { pulumi, progress } = tools;
  const { stack, confirm, keepProtected } = request;
  const again = `${typed("destroy", stack)} --confirm ${stack}`;
  const state = await valueOf(pulumi, await pulumi.state(stack), stack, again);
  const guarded = state.resources.filter((resource) => resource.protected).map(called);
  if (guarded.length > 0 && !keepProtected) throw protectedError(guarded, stack, await pulumi.project());
  progress.emit({ kind: "step", text: `looking what the stack ${stack} would lose` });
  const preview = await valueOf(pulumi, await pulumi.previewDestroy(stack, keepProtected), stack, again);
  const deleted = preview.changes.filter(({ op }) => op === "delete");
  if (deleted.length === 0) return { stack, deleted, seconds: 0, kept: guarded };
  if (confirm !== stack) throw unconfirmed(deleted, request);
  const change = pulumi.destroy(stack, keepProtected, (told) => tell(progress, told));
  const { seconds } = await valueOf(pulumi, await untilStopped(change, stack, again), stack, again);
  return { stack, deleted, seconds, kept: guarded };
}

function unconfirmed(deleted: readonly Change[], { stack, confirm, keepProtected }: DestroyRequest): UsageError {
  const flag = keepProtected ? " --keep-protected" : "";
  const lost = losses(deleted);
  const others = deleted.length - lost.length;
  const servers = deleted.filter(({ type }) => type === "hcloud:index/server:Server").length;
  const wrong = confirm === undefined ? "" : `; --confirm named ${confirm}`;
  return new UsageError(`gpuctl infra destroy would delete what the stack ${stack} has made: ${inUse(lost.length)}`, {
    because: `what becomes of it is said below; hosts and clusters that the stack has not made stay${wrong}`,
    lines: [...lost.map(lossLine), ...(others === 0 ? [] : [`and ${others} other ${others === 1 ? "record" : "records"}`])],
    nextSteps: [
      `gpuctl infra destroy --stack ${stack} --confirm ${stack}${flag}`,
      ...(servers > 0 ? ["a server that is only switched off is still billed: only deleting it ends the cost"] : []),
    ],
    data: { deleted, lost },
  });
}

function inUse(things: number): string {
  if (things === 0) return "nothing that is in use";
  return things === 1 ? "one thing in use" : `${things} things in use`;
}

function protectedError(names: readonly string[], stack: string, project: PulumiProject): PreflightRefused {
  return new PreflightRefused(`${names.join(", ")} ${names.length === 1 ? "is" : "are"} protected`, {
    because:
      "the program marks what holds data and what has an address, so that no change deletes it by accident; nothing was deleted",
    nextSteps: [
      `gpuctl infra destroy --stack ${stack} --confirm ${stack} --keep-protected   # everything else; what is kept is still billed`,
      `or give up the protection: ${unprotectStep({ ...project, stack })}`,
      `then gpuctl infra up --stack ${stack}, and ${typed("destroy", stack)} --confirm ${stack}`,
    ],
    data: { protected: names },
  });
}
