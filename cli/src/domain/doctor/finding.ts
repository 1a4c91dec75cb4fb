/** Parts of the report, in its order. */
export const doctorGroups = ["gpuctl", "machine", "storage", "GPU", "Docker", "project", "ports", "models"] as const;
export type DoctorGroup = (typeof doctorGroups)[number];

/** One thing that was looked at. What is not `ok` says why it matters and what to type. */
export interface DoctorFinding {
  group: DoctorGroup;
  level: "ok" | "warning" | "blocker";
  /** Short and stable, for scripts. */
  code: string;
  what: string;
  because?: string;
  nextSteps?: readonly string[];
}

export const ok = (group: DoctorGroup, code: string, what: string): DoctorFinding => ({ group, level: "ok", code, what });

export const warning = (
  group: DoctorGroup,
  code: string,
  what: string,
  because: string,
  nextSteps: readonly string[],
): DoctorFinding => ({
  group,
  level: "warning",
  code,
  what,
  because,
  nextSteps,
});

export const blocker = (
  group: DoctorGroup,
  code: string,
  what: string,
  because: string,
  nextSteps: readonly string[],
): DoctorFinding => ({
  group,
  level: "blocker",
  code,
  what,
  because,
  nextSteps,
});
