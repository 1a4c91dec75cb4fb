import type { TargetKind } from "../names.js";
import type { DockerFacts, HostFacts, PythonFacts } from "./facts.js";
import { blocker, ok, warning, type DoctorFinding } from "./finding.js";

const leastNode: readonly [number, number] = [22, 19];
const leastPython: readonly [number, number] = [3, 11];
/** CDI device requests came with Docker 25 (behind a switch) and are on by default since 28.2. */
const leastDockerMajor = 25;

export function checkNode({ version }: HostFacts["node"]): DoctorFinding {
  const what = `Node ${version}`;
  if (atLeast(version, leastNode)) return ok("gpuctl", "node", what);
  return blocker("gpuctl", "node-old", what, `gpuctl needs Node ${leastNode.join(".")} or newer`, [
    "install Node 24, then: gpuctl doctor",
  ]);
}

/** A Python is needed until the services' environment is made, and again when a newer gpuctl brings a newer lock. */
export function checkPython(python: PythonFacts): DoctorFinding[] {
  const environment =
    python.environment === null
      ? warning(
          "gpuctl",
          "python-environment-missing",
          "the services' Python environment is not made yet",
          "nothing can be deployed without it",
          ["gpuctl models fetch, which makes it"],
        )
      : ok("gpuctl", "python-environment", `Python environment of the services: ${python.environment}`);
  return [checkInterpreter(python), environment];
}

function checkInterpreter(python: PythonFacts): DoctorFinding {
  const level = python.environment === null ? blocker : warning;
  const needs = `services need Python ${leastPython.join(".")} or newer`;
  const next = ["apt install python3 python3-venv", "or name one: GPUCTL_PYTHON=/path/to/python3"];
  switch (python.state) {
    case "absent":
      return level("gpuctl", "python-missing", `there is no ${python.command}`, needs, next);
    case "broken":
      return level("gpuctl", "python-broken", `${python.command} does not work`, python.detail, next);
    case "found": {
      const version = python.version.join(".");
      const what = `Python ${version} (${python.executable})`;
      if (!atLeast(version, leastPython)) return level("gpuctl", "python-old", what, needs, next);
      if (!python.venv) {
        const because = "its modules venv and ensurepip are missing, so no environment can be made with it";
        return level("gpuctl", "python-venv-missing", what, because, [`apt install python3.${python.version[1]}-venv`]);
      }
      return ok("gpuctl", "python", what);
    }
  }
}

/** Docker matters to the targets that use an engine; for the others its absence is no flaw. */
export function checkDocker(docker: DockerFacts, target: TargetKind | null, gpus: number): DoctorFinding[] {
  const matters = target === "compose" || target === "swarm";
  switch (docker.state) {
    case "absent":
      if (!matters) return [ok("Docker", "docker-not-needed", "no Docker on this machine; the process target needs none")];
      return [
        warning(
          "Docker",
          "docker-missing",
          "no Docker on this machine",
          "nodes with host: local need Docker Engine here; remote nodes have their own",
          ["apt install docker.io, or https://docs.docker.com/engine/install/"],
        ),
      ];
    case "unreachable": {
      const because = docker.detail;
      const next = /permission denied/i.test(because)
        ? ["sudo usermod -aG docker $USER, then log in again"]
        : ["systemctl start docker", "docker context ls shows which engine is meant"];
      const what = `Docker ${docker.client}, but its engine does not answer`;
      return [
        matters
          ? warning("Docker", "docker-unreachable", what, because, next)
          : ok("Docker", "docker-not-needed", `${what}; the process target needs none`),
      ];
    }
    case "reachable":
      return [checkEngine(docker), ...(gpus > 0 ? [checkToolkit(docker, matters)] : [])];
  }
}

type Engine = Extract<DockerFacts, { state: "reachable" }>;

function checkEngine({ server, client }: Engine): DoctorFinding {
  const what = `Docker Engine ${server}, client ${client}`;
  if (atLeast(server, [leastDockerMajor, 0])) return ok("Docker", "docker", what);
  const because = `GPU requests by CDI need Docker Engine ${leastDockerMajor} or newer`;
  return warning("Docker", "docker-old", what, because, ["upgrade Docker Engine", "or use the process target"]);
}

function checkToolkit({ cdiDevices, runtimes }: Engine, matters: boolean): DoctorFinding {
  const cdi = cdiDevices.filter((device) => device.startsWith("nvidia.com/gpu="));
  if (cdi.length > 0) return ok("Docker", "container-toolkit", `containers can have GPUs by CDI: ${cdi.join(", ")}`);
  if (runtimes.includes("nvidia")) return ok("Docker", "container-toolkit", "containers can have GPUs by the nvidia runtime");
  const because = "Docker knows neither a CDI device nvidia.com/gpu nor a runtime nvidia";
  const next = [
    "install nvidia-container-toolkit",
    "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
    "sudo systemctl restart docker",
  ];
  if (matters) return warning("Docker", "container-toolkit-missing", "containers cannot have a GPU", because, next);
  return ok("Docker", "container-toolkit-missing", "containers cannot have a GPU yet; the process target needs no containers");
}

/** Whether `1.2.3-rc` is at least `[1, 2]`; what is no version is not. */
function atLeast(version: string, [major, minor]: readonly [number, number]): boolean {
  const match = /^v?(\d+)\.(\d+)/.exec(version);
  if (!match) return false;
  const [have, haveMinor] = [Number(match[1]), Number(match[2])];
  return have > major || (have === major && haveMinor >= minor);
}
