import { PreflightRefused } from "../../domain/errors.js";
import type { ServiceName } from "../../domain/names.js";
import { ms } from "../../domain/units.js";
import type { Context } from "../../ports.js";
import { budgets, within } from "./deadline.js";
import { reasonOf, step } from "./session.js";

/** A change that is to be made on the hosts of `--hosts` alone. */
interface PartialChange {
  /** What a person types for it. */
  command: "deploy" | "deploy --continue" | "rollback";
  /** What it asks for, for the refusal. */
  asks: string;
  /** Services that get a new instance. */
  services: readonly ServiceName[];
  /** Told with a refusal. */
  nextSteps: readonly string[];
}

/**
 * Lets a new release pass by the hosts that `--hosts` does not name: allowed only where none of them answers, because hosts that do are
 * never put on two releases by choice. They are given up for this command, and the release's record says so. Throws PreflightRefused
 * when one answers, or when a service of the change has no other host; nothing has been changed then.
 */
export async function passBySilent(ctx: Context, change: PartialChange): Promise<void> {
  const { nodes, driver } = ctx;
  const chosen = nodes?.chosen ?? null;
  if (nodes === undefined || chosen === null) return;
  const others = nodes.names.filter((node) => !chosen.includes(node));
  const looks = await Promise.all(others.map(async (node) => ({ node, because: await silence(ctx, node) })));
  const answering = looks.filter(({ because }) => because === null).map(({ node }) => node);
  if (answering.length > 0) throw halfAChange(ctx, change, chosen, answering);
  const placeless = change.services.filter((service) => driver.nodesOf?.(service).length === 0);
  if (placeless.length > 0) throw withoutAHost(change, chosen, placeless);
  for (const { node, because } of looks) {
    step(ctx, `${node} is left out: ${because ?? ""}`);
    nodes.giveUp(node, because ?? "");
  }
}

/** Why nothing can be seen of a host now; null when it answers. */
async function silence({ clock, driver }: Context, node: string): Promise<string | null> {
  try {
    await within(clock, ms(budgets.look), `looking at ${node}`, async () => driver.at?.(node).observe());
    return null;
  } catch (thrown) {
    return reasonOf(thrown);
  }
}

function halfAChange(
  { nodes }: Context,
  { command, asks, nextSteps }: PartialChange,
  chosen: readonly string[],
  answering: readonly string[],
): PreflightRefused {
  const silent = (nodes?.names ?? []).filter((node) => !chosen.includes(node) && !answering.includes(node));
  const all = (nodes?.names ?? []).filter((node) => !silent.includes(node));
  return new PreflightRefused(`this would put another release on ${chosen.join(", ")} alone`, {
    because: `${asks}, and only hosts that cannot be reached are left out: ${answering.join(" and ")} ${answering.length === 1 ? "answers" : "answer"}`,
    nextSteps: [
      silent.length === 0 ? `gpuctl ${command}, on all hosts` : `gpuctl ${command} --hosts ${all.join(",")}`,
      ...nextSteps,
    ],
    data: { hosts: chosen, answering },
  });
}

function withoutAHost({ command }: PartialChange, chosen: readonly string[], services: readonly ServiceName[]): PreflightRefused {
  return new PreflightRefused(`${services.join(" and ")} cannot be changed without the hosts that are left out`, {
    because: `none of ${chosen.join(", ")} runs ${services.length === 1 ? "it" : "them"}`,
    nextSteps: [
      "gpuctl doctor, to see why the other hosts do not answer",
      ...(command === "deploy --continue" ? [] : [`gpuctl ${command} SERVICE --hosts ${chosen.join(",")}, for another service`]),
    ],
    data: { hosts: chosen, services },
  });
}

/** Hosts that `--hosts` did not name and that a new release passes by. */
export function leftOut({ nodes }: Pick<Context, "nodes">): readonly string[] {
  const chosen = nodes?.chosen ?? null;
  return chosen === null ? [] : [...(nodes?.lost.keys() ?? [])].filter((node) => !chosen.includes(node));
}
