import { Failed, PreflightRefused, TargetUnreachable, type GpuctlError } from "../errors.js";

/** What was tried with the Docker of this machine. */
export interface DockerAttempt {
  /** For the message: `the image could not be pushed`. */
  failure: string;
  /** The registry concerned, as `docker login` takes it; null when none is. */
  server: string | null;
  /** What to type to try again. */
  again: string;
}

interface Reason {
  pattern: RegExp;
  kind: "unreachable" | "refused" | "failed";
  /** In place of the message of the attempt. */
  message?: string;
  next(attempt: DockerAttempt): readonly string[];
}

/** What Docker said as an error with its own words and what to type next. */
export function localDockerError(attempt: DockerAttempt, said: string): GpuctlError {
  const reason = reasons.find(({ pattern }) => pattern.test(said));
  const because = said === "" ? "docker ended without a word" : said;
  const nextSteps = reason?.next(attempt) ?? ["docker info", "docker buildx ls", attempt.again];
  const message = reason?.message ?? attempt.failure;
  const data = { failure: attempt.failure };
  switch (reason?.kind) {
    case "unreachable":
      return new TargetUnreachable(message, { because, nextSteps, data });
    case "refused":
      return new PreflightRefused(message, { because, nextSteps, data });
    default:
      return new Failed(message, { because, nextSteps, data });
  }
}

/** Docker's own command is missing. */
export const dockerMissing = (again: string, cause: unknown): GpuctlError =>
  new PreflightRefused("there is no docker on this machine", {
    because: "images are built and pushed by the docker command, and it is not on PATH",
    nextSteps: ["install Docker Engine 25 or newer with buildx: https://docs.docker.com/engine/install/", again],
    cause,
  });

/** By what Docker 25 to 28, buildx 0.12 to 0.29 and pip print; the first that matches counts. */
const reasons: readonly Reason[] = [
  {
    pattern: /no space left on device|disk quota exceeded/i,
    kind: "failed",
    next: ({ again }) => ["docker system df", "gpuctl images cache clear --limit 5GB", "docker image prune", again],
  },
  {
    pattern:
      /'buildx' is not a docker command|unknown command: docker buildx|unknown flag: --(?:progress|builder)|is not a docker command.*buildx/i,
    kind: "refused",
    message: "this docker has no buildx",
    next: ({ again }) => [
      "install its plugin: apt-get install docker-buildx-plugin (Debian's own package: docker-buildx)",
      again,
    ],
  },
  {
    pattern: /unknown flag: --(?:max-used-space|keep-state|buildkitd-config|sbom|provenance)/i,
    kind: "refused",
    message: "this buildx is too old",
    next: ({ again }) => ["docker buildx version", "install 0.17 or newer", again],
  },
  {
    pattern:
      /permission denied while trying to connect|docker\.sock: permission denied|docker\.sock: connect: permission denied/i,
    kind: "refused",
    message: "this account may not use Docker",
    next: ({ again }) => ["sudo usermod -aG docker $USER   # then log in again", `sudo ${again}`],
  },
  {
    pattern: /cannot connect to the docker daemon|is the docker daemon running|error during connect|docker\.sock: connect/i,
    kind: "unreachable",
    message: "Docker on this machine does not answer",
    next: ({ again }) => ["sudo systemctl start docker", "or set DOCKER_HOST to the engine you mean", again],
  },
  {
    pattern: /failed to stat \S+|secret .*no such file/i,
    kind: "failed",
    next: () => ["the file that --secret names must exist: ls -l, with its path"],
  },
  {
    pattern: /buildkit-syft-scanner/i,
    kind: "failed",
    next: ({ again }) => [`${again} --no-sbom`, "or let the builder reach docker.io, where the scanner comes from"],
  },
  {
    pattern: /booting buildkit|moby\/buildkit|buildkit:\S+ not found/i,
    kind: "failed",
    next: () => ["gpuctl images cache setup --image mirror.example.net/moby/buildkit:buildx-stable-1"],
  },
  {
    pattern: /do not match the hashes/i,
    kind: "failed",
    next: () => ["the package index serves other files than the lock names: ask its operator, or leave PIP_INDEX_URL out"],
  },
  {
    pattern:
      /no matching distribution|could not find a version|pip.*(?:connection|timed out|ssl)|pypi|certificate_verify_failed/i,
    kind: "failed",
    next: ({ again }) => [
      `${again} --build-arg PIP_INDEX_URL=https://mirror.example.net/simple/`,
      "with a password: --secret id=pip_conf,src=pip.conf; with a certificate of its own: --secret id=ca,src=ca.pem",
      "behind a proxy: --build-arg HTTPS_PROXY=http://proxy.example.net:3128",
    ],
  },
  {
    pattern: /failed to resolve source metadata|load metadata for|pull access denied/i,
    kind: "failed",
    next: ({ again }) => [
      `${again} --build-arg BASE_IMAGE=mirror.example.net/python:3.13-slim-trixie`,
      "at a registry that asks who you are: docker login, with its name",
    ],
  },
  {
    pattern:
      /unauthorized|authentication required|no basic auth|denied: |access to the resource is denied|authorization failed|403 forbidden/i,
    kind: "refused",
    next: ({ server, again }) => [`docker login${server === null ? "" : ` ${server}`}`, again],
  },
  {
    pattern: /server gave HTTP response to HTTPS client/i,
    kind: "refused",
    next: ({ server, again }) => [
      `put it behind TLS, or add ${server ?? "it"} to insecure-registries in /etc/docker/daemon.json and restart Docker`,
      "gpuctl images cache setup   # when the builder is gpuctl's own",
      again,
    ],
  },
  {
    pattern: /x509|certificate signed by unknown authority/i,
    kind: "refused",
    next: ({ server, again }) => [`put its certificate at /etc/docker/certs.d/${server ?? "REGISTRY"}/ca.crt`, again],
  },
  {
    pattern:
      /connection refused|no route to host|i\/o timeout|no such host|context deadline exceeded|connection reset|\bEOF\b|lookup \S+/i,
    kind: "unreachable",
    next: ({ server, again }) => [...(server === null ? ["docker info"] : [`curl -sI https://${server}/v2/`]), again],
  },
];
