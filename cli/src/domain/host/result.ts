import { z } from "zod";

const text = z.string().nullable();

const resultSchema = z.object({
  schemaVersion: z.literal(1),
  /** SHA-256 (hex) of the script that ran. */
  script: z.string(),
  revision: z.string(),
  state: z.enum(["prepared", "rebooting", "reboot-needed", "failed", "refused"]),
  step: z.string(),
  reason: text,
  nextStep: text,
  /** `memory`: MiB. */
  gpus: z.array(z.object({ uuid: z.string(), name: z.string(), memory: z.number().nullable() })),
  driver: text,
  docker: text,
  toolkit: text,
  kernel: z.string(),
  at: z.string(),
});

/** What the script that prepares hosts leaves as its result, and prints of the present state. */
export type HostResult = z.infer<typeof resultSchema>;

/** The result in a text; null when the text holds none. */
export function readResult(source: string): HostResult | null {
  try {
    const read = resultSchema.safeParse(JSON.parse(source));
    return read.success ? read.data : null;
  } catch {
    return null;
  }
}
