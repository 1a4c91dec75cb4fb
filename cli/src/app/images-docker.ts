import { TargetUnreachable, type GpuctlError } from "../domain/errors.js";
import { builderName, isContainerdStore, parseBuilder, type Builder } from "../domain/images/builder.js";
import { inspectBuilder, storageFacts, type Argv } from "../domain/images/docker-commands.js";
import { dockerMissing, localDockerError, type DockerAttempt } from "../domain/images/docker-errors.js";
import { ms } from "../domain/units.js";
import type { CommandResult, ExecuteOptions } from "../ports.js";
import type { ImageTools } from "../ports/images.js";

/** Questions that an engine answers at once, and a registry within its own timeouts. */
const shortDeadline = ms(120_000);
/** An image with CUDA is 5 GB: hours over a slow line. */
export const longDeadline = ms(4 * 3600_000);

export type DockerOptions = Partial<ExecuteOptions> & { env?: Readonly<Record<string, string>> };

/** Runs docker to its end, whatever it ends with. Throws PreflightRefused when there is none. */
export async function askDocker(
  { executor, signal }: Pick<ImageTools, "executor" | "signal">,
  argv: Argv,
  again: string,
  { env, ...options }: DockerOptions = {},
): Promise<CommandResult> {
  try {
    return await executor.run({ argv, ...(env && { env }) }, { deadline: shortDeadline, signal, ...options });
  } catch (error) {
    if (error instanceof TargetUnreachable) throw dockerMissing(again, error);
    throw error;
  }
}

/** The same for a command that must succeed; its stdout. */
export async function mustDocker(
  tools: Pick<ImageTools, "executor" | "signal">,
  argv: Argv,
  attempt: DockerAttempt,
  options: DockerOptions = {},
): Promise<string> {
  const result = await askDocker(tools, argv, attempt.again, options);
  if (result.code !== 0) throw dockerFailure(attempt, result);
  return result.stdout;
}

/** A failed command as an error; `because` in place of the end of its output, where somebody read that line by line. */
export function dockerFailure(attempt: DockerAttempt, result: CommandResult, because: string | null = null): GpuctlError {
  return localDockerError(attempt, because ?? (lastLines(result.stderr) || lastLines(result.stdout)));
}

/** The end of what a command said, in one line. */
function lastLines(text: string): string {
  const lines = text.split(/\r?\n/).map((line) => line.trim());
  return lines
    .filter((line) => line !== "" && !/^-+$/.test(line) && !line.startsWith("Run 'docker"))
    .slice(-4)
    .join("; ");
}

/** Our own builder when it was set up, else the one that this person's Docker uses. */
export async function currentBuilder(tools: ImageTools, again: string): Promise<Builder> {
  return (await findBuilder(tools, builderName, again)) ?? (await requireBuilder(tools, again));
}

/** A builder by its name; null when there is none. Throws when Docker or buildx does not answer. */
export async function findBuilder(tools: ImageTools, name: string, again: string): Promise<Builder | null> {
  return (await inspect(tools, name, again))?.builder ?? null;
}

/** The same with what buildx printed of it. */
export async function inspect(
  tools: ImageTools,
  name: string | null,
  again: string,
): Promise<{ builder: Builder; output: string } | null> {
  const attempt = { failure: "the builder could not be asked", server: null, again };
  // First: only a running engine answers it, while buildx tells of builders that nobody can reach.
  const containerd = isContainerdStore(await mustDocker(tools, storageFacts, attempt));
  const result = await askDocker(tools, inspectBuilder(name), again);
  if (result.code !== 0 && /no builder .* found/i.test(result.stderr)) return null;
  if (result.code !== 0) throw dockerFailure(attempt, result);
  const builder = parseBuilder(result.stdout, containerd);
  if (builder !== null && "error" in builder) throw localDockerError(attempt, builder.error);
  return builder === null ? null : { builder, output: result.stdout };
}

async function requireBuilder(tools: ImageTools, again: string): Promise<Builder> {
  const found = await inspect(tools, null, again);
  if (found !== null) return found.builder;
  throw localDockerError({ failure: "Docker names no builder", server: null, again }, "docker buildx inspect says nothing");
}
