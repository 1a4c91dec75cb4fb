import { Failed, PreflightRefused, TargetUnreachable, type GpuctlError } from "../../../domain/errors.js";
import type { CommandResult } from "../../../ports.js";
import { fencedStatus } from "../../remote-state/fence.js";

/** What was tried, where. */
export interface Attempt {
  node: string;
  /** For the message: `the container could not be started`. */
  failure: string;
  /** Directory of the environment on the host. */
  root: string;
}

/** A failed command of Docker as an error with Docker's own words and what to type next. */
export function dockerError(attempt: Attempt, result: CommandResult): GpuctlError {
  const said = lastLines(result.stderr) || lastLines(result.stdout);
  const { node, failure, root } = attempt;
  const data = { node, code: result.code, said };
  if (result.code === fencedStatus)
    return new Failed(`the lease on ${node} was lost, and nothing was changed there`, {
      because: said,
      nextSteps: ["gpuctl status", "then run the command again"],
      data,
    });
  const known = reasons.find(({ pattern }) => pattern.test(said)) ?? (result.code === 127 ? notInstalled : null);
  const because = said || (result.signal === null ? `exit status ${result.code ?? "unknown"}` : `ended by ${result.signal}`);
  const details = {
    because,
    nextSteps: known?.next(node, root, said) ?? [`docker ps --all   # on ${node}`, "gpuctl doctor"],
    data,
  };
  const message = `${failure} on ${node}`;
  switch (known?.kind) {
    case "unreachable":
      return new TargetUnreachable(`Docker on ${node} does not answer`, details);
    case "refused":
      return new PreflightRefused(message, details);
    default:
      return new Failed(message, details);
  }
}

interface Reason {
  pattern: RegExp;
  kind: "unreachable" | "refused" | "failed";
  /** @param said  what Docker said */
  next(node: string, root: string, said: string): readonly string[];
}

const notInstalled: Reason = {
  pattern: /docker: (?:command )?not found|'compose' is not a docker command|unknown shorthand flag: 'p'/,
  kind: "refused",
  next: (node) => [`install Docker Engine with its Compose plugin on ${node}`, "gpuctl doctor"],
};

/** By what Docker 25 to 28 print; the first that matches counts. */
const reasons: readonly Reason[] = [
  {
    pattern: /permission denied while trying to connect/i,
    kind: "refused",
    next: (node) => [`log in as root, or allow sudo without a password on ${node}`, "gpuctl doctor"],
  },
  {
    pattern: /cannot connect to the docker daemon|is the docker daemon running|docker\.sock: connect|error during connect/i,
    kind: "unreachable",
    next: (node) => [`systemctl status docker   # on ${node}`, `journalctl -u docker -n 50   # on ${node}`, "gpuctl doctor"],
  },
  notInstalled,
  {
    pattern: /dial tcp|connection refused|no such host|i\/o timeout|TLS handshake timeout|Client\.Timeout exceeded/i,
    kind: "refused",
    next: (node, _root, said) => [
      `curl -I ${/https?:\/\/[^/"\s]+\/v2\//.exec(said)?.[0] ?? "https://REGISTRY/v2/"}   # on ${node}: the registry of the image must answer`,
      "then run the command again",
    ],
  },
  {
    pattern: /no space left on device/i,
    kind: "failed",
    next: (node, root) => [`df -h /var/lib/docker ${root}   # on ${node}`, "gpuctl prune", `docker system df   # on ${node}`],
  },
  {
    pattern: /could not select device driver|unresolvable CDI devices|CDI (?:device )?injection failed|nvidia-container-cli/i,
    kind: "failed",
    next: (node) => [`nvidia-ctk cdi list   # on ${node}`, "gpuctl doctor"],
  },
  {
    pattern: /port is already allocated|address already in use/i,
    kind: "failed",
    next: (node) => [`ss -ltnp   # on ${node}`, "or give the service another port in gpuctl.yaml"],
  },
  {
    pattern: /manifest unknown|manifest for .* not found|repository does not exist/i,
    kind: "refused",
    next: () => ["gpuctl images push", "then run the command again"],
  },
  {
    pattern:
      /unauthorized|pull access denied|authentication required|no basic auth credentials|requested access to the resource is denied/i,
    kind: "refused",
    next: (node) => [
      "registry: { username: NAME, password: { env: VARIABLE } } of the environment in gpuctl.yaml",
      `or docker login   # on ${node}, at the registry of the image`,
    ],
  },
];

/** The end of what a command said, in one line. */
export function lastLines(text: string, lines = 4): string {
  return text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== "")
    .slice(-lines)
    .join("; ");
}
