import { UsageError } from "../domain/errors.js";
import type { Summary } from "../domain/infra/events.js";
import { losses } from "../domain/infra/losses.js";
import type { Change } from "../domain/infra/preview.js";
import { infraPreview, lossLine, requirePlaceable, tell } from "./infra-preview.js";
import { typed, untilStopped, valueOf, type InfraTools } from "./infra-stack.js";

export interface InfraUp {
  stack: string;
  state: string;
  changes: Summary["changes"];
  seconds: number;
}

/**
 * Makes what the stack's configuration says. Refuses what the provider cannot place, before anything is made. What ends or loses
 * something needs the stack's name as confirmation. Without a change of any resource Pulumi runs all the same: outputs may have changed,
 * and an earlier change may have ended before it wrote them.
 */
export async function infraUp(tools: InfraTools, stack: string, confirm: string | undefined): Promise<InfraUp> {
  const { pulumi, progress } = tools;
  const { changes, unavailable, state } = await infraPreview(tools, stack);
  requirePlaceable(unavailable, stack);
  requireConfirmed(changes, stack, confirm);
  const again = typed("up", stack);
  const change = pulumi.up(stack, (told) => tell(progress, told));
  const summary = await valueOf(pulumi, await untilStopped(change, stack, again), stack, again, changes);
  return { stack, state, ...summary };
}

function requireConfirmed(changes: readonly Change[], stack: string, confirm: string | undefined): void {
  const lost = losses(changes);
  if (lost.length === 0 || confirm === stack) return;
  const wrong = confirm === undefined ? "" : `; --confirm named ${confirm}`;
  throw new UsageError(
    `gpuctl infra up would delete, replace or power off ${lost.length === 1 ? "something" : `${lost.length} things`} in use`,
    {
      because: `what runs or lies there is interrupted or lost${wrong}`,
      lines: lost.map(lossLine),
      nextSteps: [
        `gpuctl infra up --stack ${stack} --confirm ${stack}`,
        "or take back what changed in the stack's configuration",
      ],
      data: { lost },
    },
  );
}
