import { randomUUID } from "node:crypto";
import { constants } from "node:os";
import { Failed } from "../../../domain/errors.js";
import type { InstanceId } from "../../../domain/names.js";
import { ms } from "../../../domain/units.js";
import type { ExecOptions } from "../../../ports.js";
import type { HostCommands } from "./host-commands.js";

/** A day: whoever works for longer starts again. */
const workDeadline = ms(86_400_000);
const farewell = ms(10_000);
/** Docker leaves a command alone when its client ends; what carries this variable is found by it. */
const markName = "GPUCTL_EXEC";

const signalNumbers: ReadonlyMap<string, number> = new Map(Object.entries(constants.signals));

/** Arguments: PROJECT-FILTER ENVIRONMENT-FILTER ID. The container of an instance that runs, or nothing. */
const finding = `docker ps --quiet --no-trunc --filter "$1" --filter "$2" --filter "label=dev.gpuctl.instance=$3" --filter status=running`;

/** Arguments: MARK. Ends everything that carries it: politely, and a second later for good. */
const ending = `marked() { grep -lzxF "${markName}=$1" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3; }
p=$(marked "$1"); if [ -z "$p" ]; then exit 0; fi
kill $p 2>/dev/null; sleep 1
p=$(marked "$1"); if [ -n "$p" ]; then kill -KILL $p 2>/dev/null; fi; exit 0`;

/**
 * Runs a command in the container of an instance, with the container's environment; its exit status, 128 + n when signal n ended it.
 * Aborted or cut off, the command is ended there as well, as far as the host still answers.
 */
export async function execInContainer(
  { commands, filters }: { commands: HostCommands; filters: readonly string[] },
  id: InstanceId,
  command: readonly string[],
  { signal, onLine }: ExecOptions,
): Promise<number> {
  const failure = `the container of ${id} could not be looked for`;
  const container = (await commands.look({ text: finding, args: [...filters, id], failure, signal })).trim();
  if (container === "")
    throw new Failed(`${id} does not run on ${commands.node}`, { nextSteps: ["gpuctl status", "gpuctl logs"] });
  const mark = randomUUID();
  const argv = ["docker", "exec", "--env", `${markName}=${mark}`, container, ...command] as const;
  try {
    const ended = await commands.attempt({ argv }, { deadline: workDeadline, signal, onLine, output: "lines" });
    return ended.code ?? 128 + (signalNumbers.get(ended.signal ?? "") ?? 0);
  } catch (error) {
    // What matters is why it ended; a host that does not answer ends nothing any more.
    const end = { argv: ["sh", "-c", ending, "gpuctl", mark] as const };
    await commands.attempt(end, { deadline: farewell }).catch(() => undefined);
    throw error;
  }
}
