/** The phases of a deploy, in their order. */
export const phases = [
  "resolve",
  "preflight",
  "space",
  "stage-code",
  "stage-models",
  "lease",
  "strategy",
  "start",
  "load",
  "warm-up",
  "device-proof",
  "gates",
  "switch",
  "drain",
  "soak",
  "mark-good",
  "prune",
] as const;
export type Phase = (typeof phases)[number];
