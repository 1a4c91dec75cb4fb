import type { DiskFacts, HostFacts, ProjectFacts } from "./facts.js";
import { blocker, doctorGroups, ok, warning, type DoctorFinding } from "./finding.js";
import { checkEngine, checkGpu } from "./gpu.js";
import { checkCpu, checkDisk, checkMemory, checkSystem } from "./machine.js";
import { checkDocker, checkNode, checkPython } from "./software.js";

/** The project as doctor found it: usable, absent, or broken in its own words. */
export type ProjectState =
  | { state: "usable"; facts: ProjectFacts; ports: readonly DoctorFinding[] }
  | { state: "absent" }
  | { state: "unusable"; message: string; nextSteps: readonly string[] };

/** Every finding about a machine and the project on it, in the report's order. */
export function diagnose(host: HostFacts, project: ProjectState): DoctorFinding[] {
  const facts = project.state === "usable" ? project.facts : null;
  const gpus = host.gpu.smi.state === "gpus" ? host.gpu.smi.gpus.length : 0;
  const findings = [
    checkNode(host.node),
    ...checkPython(host.python),
    ...checkSystem(host.system),
    ...checkCpu(host.cpu, host.system.architecture),
    checkMemory(host.memory),
    ...host.disks.map((disk) => checkDisk(disk, isNeeded(disk.purpose, host, facts))),
    ...checkGpu(host.gpu, host.system, facts?.services ?? []),
    ...checkEngine(facts, gpus),
    ...checkDocker(host.docker, facts?.target ?? null, gpus),
    checkProject(project),
    ...(project.state === "usable" ? project.ports : []),
    ...checkModels(facts),
  ];
  return findings.sort((left, right) => doctorGroups.indexOf(left.group) - doctorGroups.indexOf(right.group));
}

/** State is always written; models and the Python environment only until they are complete. */
function isNeeded(purpose: DiskFacts["purpose"], host: HostFacts, facts: ProjectFacts | null): boolean {
  if (purpose === "models") return facts === null || facts.models.some(({ problem }) => problem !== null);
  return purpose === "state" || host.python.environment === null;
}

function checkProject(project: ProjectState): DoctorFinding {
  switch (project.state) {
    case "usable":
      return ok(
        "project",
        "project",
        `${project.facts.file}: environment ${project.facts.environment} (${project.facts.target})`,
      );
    case "absent":
      return warning(
        "project",
        "project-missing",
        "no gpuctl.yaml here or above",
        "ports and models are checked only for a project",
        ["gpuctl init"],
      );
    case "unusable":
      return blocker(
        "project",
        "project-invalid",
        firstLine(project.message),
        "nothing can be deployed before it is corrected",
        project.nextSteps,
      );
  }
}

const firstLine = (text: string): string => text.split("\n", 1)[0] ?? text;

function checkModels(facts: ProjectFacts | null): DoctorFinding[] {
  return (facts?.models ?? []).map(({ name, bytes, problem }) =>
    problem === null
      ? ok("models", "model", `${name}: complete${bytes === null ? "" : `, ${(bytes / 1e6).toFixed(0)} MB`}`)
      : blocker("models", "model-missing", `the model ${name} cannot be used`, problem.because, problem.nextSteps),
  );
}

/** How many of each level. */
export function tally(findings: readonly DoctorFinding[]): { blockers: number; warnings: number } {
  const count = (level: DoctorFinding["level"]): number => findings.filter((finding) => finding.level === level).length;
  return { blockers: count("blocker"), warnings: count("warning") };
}

const marks = { ok: "ok      ", warning: "warning ", blocker: "BLOCKER " } as const;

/** The report as people read it: by group, with reasons and next steps where something is not right. */
export function doctorText(findings: readonly DoctorFinding[]): string {
  const groups = doctorGroups.flatMap((group) => {
    const own = findings.filter((finding) => finding.group === group);
    return own.length === 0 ? [] : [[group, ...own.map(findingText)].join("\n")];
  });
  const { blockers, warnings } = tally(findings);
  const count = (number: number, word: string): string => `${number === 0 ? "no" : number} ${word}${number === 1 ? "" : "s"}`;
  return [...groups, `${count(blockers, "blocker")}, ${count(warnings, "warning")}.`].join("\n\n");
}

function findingText({ level, what, because, nextSteps }: DoctorFinding): string {
  const lines = [`  ${marks[level]}${what}`];
  if (because !== undefined) lines.push(`          because ${because}`);
  for (const [index, step] of (nextSteps ?? []).entries()) lines.push(`          ${index === 0 ? "next: " : "      "}${step}`);
  return lines.join("\n");
}
