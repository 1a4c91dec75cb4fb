import { describe, expect, it } from "vitest";
import { dockerError } from "../../../../../cli/src/adapters/targets/compose/docker-errors.js";
import { Failed, PreflightRefused, TargetUnreachable } from "../../../../../cli/src/domain/errors.js";
import { fencedStatus } from "../../../../../cli/src/adapters/remote-state/fence.js";

const attempt = { node: "gpu-1", failure: "the container could not be started", root: "/var/lib/gpuctl/shop/prod" };
const of = (stderr: string, code: number | null = 1, signal: string | null = null) =>
  dockerError(attempt, { code, signal, stdout: "", stderr });

describe("a failed command of Docker", () => {
  it.each([
    [
      "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
      TargetUnreachable,
      /systemctl status docker/,
    ],
    [
      "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
      PreflightRefused,
      /sudo without a password/,
    ],
    ["docker: 'compose' is not a docker command.", PreflightRefused, /Compose plugin/],
    ["failed to register layer: write /x: no space left on device", Failed, /df -h/],
    [
      'Error response from daemon: could not select device driver "cdi" with capabilities: [[gpu]]',
      Failed,
      /nvidia-ctk cdi list/,
    ],
    [
      "Error response from daemon: CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=GPU-1",
      Failed,
      /nvidia-ctk cdi list/,
    ],
    ["Bind for 10.0.0.5:8001 failed: port is already allocated", Failed, /ss -ltnp/],
    [
      "Error response from daemon: manifest for r.example/x@sha256:11 not found: manifest unknown",
      PreflightRefused,
      /gpuctl images push/,
    ],
    ["Error response from daemon: pull access denied for x, repository does not exist", PreflightRefused, /gpuctl images push/],
    ["Error response from daemon: unauthorized: authentication required", PreflightRefused, /registry: \{ username/],
    [
      'Error response from daemon: Get "http://r.example/v2/x": no basic auth credentials',
      PreflightRefused,
      /registry: \{ username/,
    ],
    ["Error response from daemon: something new", Failed, /docker ps --all/],
  ])("%s", (stderr, kind, next) => {
    const error = of(stderr);
    expect(error).toBeInstanceOf(kind);
    expect(error.because).toBe(stderr);
    expect(error.nextSteps.join("\n")).toMatch(next);
    expect(`${error.message} ${error.nextSteps.join(" ")}`).toContain("gpu-1");
  });

  it("keeps the end of what Docker said, and says how a silent one ended", () => {
    expect(of("one\ntwo\n\nthree\nfour\nfive\n").because).toBe("two; three; four; five");
    expect(of("", null, "SIGKILL").because).toBe("ended by SIGKILL");
    expect(of("", 3).because).toBe("exit status 3");
    expect(of("sh: 1: docker: not found", 127)).toBeInstanceOf(PreflightRefused);
  });

  it("says of a lost lease that nothing was changed", () => {
    const error = of("lease 4 is not the newest any more, lease 5 is", fencedStatus);
    expect(error.message).toBe("the lease on gpu-1 was lost, and nothing was changed there");
    expect(error.because).toContain("lease 5");
  });
});
