/** What every command about the infrastructure begins with: which project, which stack, and errors in words. */
import { resolve } from "node:path";
import type { SecretSource } from "../domain/config/resolved.js";
import {
  ConfigInvalid,
  Failed,
  Interrupted,
  PreflightRefused,
  TargetUnreachable,
  UsageError,
  type GpuctlError,
} from "../domain/errors.js";
import { nearest } from "../domain/config/suggest.js";
import { explain } from "../domain/infra/explain.js";
import type { Change } from "../domain/infra/preview.js";
import type { Progress } from "../ports.js";
import type { Hcloud } from "../ports/hcloud.js";
import type { Pulumi, PulumiFailure, PulumiOutcome, PulumiProject, StackPlace } from "../ports/infra.js";
import { loadProject, loadProjectFile, type LoadRequest } from "./load-config.js";
import { stackPlace } from "./load-inventory.js";

export interface InfraTools {
  pulumi: Pulumi;
  /** The provider's API; null where no token is given. */
  hcloud: Hcloud | null;
  progress: Progress;
}

/** What a command is about. */
export interface InfraTarget {
  place: StackPlace;
  /** Where the token of the provider is read from. */
  token: SecretSource;
  /** Name in gpuctl.yaml; null without one. */
  project: string | null;
  /** File that relative paths and secrets count from; null without a gpuctl.yaml. */
  projectFile: string | null;
}

const usualToken: SecretSource = { env: "HCLOUD_TOKEN" };

/** The Pulumi project of gpuctl.yaml, or of this folder where there is none. */
export async function infraTarget(request: LoadRequest): Promise<InfraTarget> {
  const from = await loadProjectFile(request).catch((error: unknown) => {
    // Without --config and without a file anywhere, this folder is the project.
    if (error instanceof ConfigInvalid && error.data?.["missing"] === true) return null;
    throw error;
  });
  if (from === null)
    return {
      place: { directory: request.cwd, backend: null },
      token: tokenOf(undefined, request),
      project: null,
      projectFile: null,
    };
  const { path, file } = from;
  return { place: stackPlace(from), token: tokenOf(file.infra?.token, request), project: file.project, projectFile: path };
}

/** What gpuctl.yaml says, else a file that HCLOUD_TOKEN_FILE names, else the variable itself. */
function tokenOf(own: SecretSource | undefined, { env, cwd }: LoadRequest): SecretSource {
  const file = env["HCLOUD_TOKEN_FILE"];
  return own ?? (file ? { file: resolve(cwd, file) } : usualToken);
}

/** The stack that is meant: `--stack`, else the one whose inventory the environment has, else the environment's own name. */
export async function stackName(request: LoadRequest, named: string | undefined): Promise<string> {
  if (named !== undefined) {
    if (/^[A-Za-z0-9_.-]{1,100}$/.test(named)) return named;
    throw new UsageError(`${named} is no name of a stack`, {
      because: "letters, digits, dots, dashes and underscores are",
      nextSteps: ["--stack NAME"],
    });
  }
  try {
    const { own, environment } = await loadProject(request);
    const source = own.target === "compose" ? own.inventory : undefined;
    return source?.kind === "stack" ? source.stack : environment;
  } catch (error) {
    if (!(error instanceof ConfigInvalid) || error.data?.["missing"] !== true) throw error;
    throw new UsageError("it is not clear which stack is meant", {
      because: "there is no gpuctl.yaml whose environment could name it",
      nextSteps: ["--stack NAME"],
    });
  }
}

/** The provider's API. Throws PreflightRefused where no token is given. */
export function requireHcloud({ hcloud }: Pick<InfraTools, "hcloud">): Hcloud {
  if (hcloud !== null) return hcloud;
  throw new PreflightRefused("there is no token for Hetzner Cloud", {
    because:
      "the variable HCLOUD_TOKEN is not set, and gpuctl.yaml names no other place; the secret hcloud:token of a stack is for Pulumi alone",
    nextSteps: ["export HCLOUD_TOKEN=...", "or HCLOUD_TOKEN_FILE=PATH, or infra: { token: { file: PATH } } in gpuctl.yaml"],
  });
}

/** Throws UsageError for a stack that is configured nowhere, so that a mistyped name does not make a new stack. */
export function requireConfigured({ configured, directory }: PulumiProject, stack: string): void {
  if (configured.includes(stack)) return;
  const guess = nearest(stack, configured);
  const known = configured.length === 0 ? "there is none" : `there are ${configured.join(", ")}`;
  throw new UsageError(`there is no configuration for a stack ${stack}${guess === null ? "" : `; did you mean ${guess}?`}`, {
    because: `${known} in ${directory}`,
    nextSteps: [
      `write Pulumi.${stack}.yaml in the folder of the others; docs/guides has one for each kind of host`,
      ...configured.map((one) => `--stack ${one}`),
    ],
  });
}

/** The value of an outcome. Throws what Pulumi said, in words. @param planned  what an update was to change */
export async function valueOf<Value>(
  pulumi: Pulumi,
  outcome: PulumiOutcome<Value>,
  stack: string,
  again: string,
  planned: readonly Change[] = [],
): Promise<Value> {
  if (outcome.ok) return outcome.value;
  throw failureError(outcome, await pulumi.project(), stack, again, planned);
}

/** A change by Pulumi; interrupted, it says what holds now. */
export async function untilStopped<Value>(change: Promise<Value>, stack: string, again: string): Promise<Value> {
  try {
    return await change;
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
    throw new Interrupted(`${error.message}; the change of the stack ${stack} is not finished`, {
      because: "Pulumi has ended the operations that ran and written down what there is",
      nextSteps: [again],
      cause: error,
    });
  }
}

/** The error for a failed command of Pulumi. @param again  what to type to go on */
export function failureError(
  failure: PulumiFailure,
  project: PulumiProject,
  stack: string,
  again: string,
  planned: readonly Change[] = [],
): GpuctlError {
  const { directory, backend, givenBackend, platform } = project;
  const doing = { stack, again, directory, backend, givenBackend, platform };
  const { kind, message, because, nextSteps } = explain(failure.said, failure.stderr, doing, planned);
  const errors = failure.said.filter(({ severity }) => severity === "error").map((error) => error.message);
  const details = { because, nextSteps, data: { stack, errors } };
  switch (kind) {
    case "refused":
      return new PreflightRefused(message, details);
    case "config":
      return new ConfigInvalid(message, details);
    case "unreachable":
      return new TargetUnreachable(message, details);
    case "failed":
      return new Failed(message, details);
  }
}

/** Whether Pulumi said that the stack does not exist. */
export const isNewStack = (outcome: PulumiOutcome<unknown>): boolean =>
  !outcome.ok && /no stack named '[^']*' found/.test(outcome.stderr);

/** `gpuctl infra up --stack prod` */
export const typed = (command: string, stack: string): string => `gpuctl infra ${command} --stack ${stack}`;
