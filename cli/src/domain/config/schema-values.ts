import { z } from "zod";
import type { MiB, Milliseconds } from "../units.js";
import { bytesToMiB, durationPattern, parseDuration, parseSize, sizePattern } from "./quantities.js";

const durationHelp = "expected a duration such as 500ms, 10s or 15m (at most 24d)";
const sizeHelp = "expected a size such as 512MiB, 8GiB or 16GB";

/** `10s` in the file, milliseconds in the program. */
export const duration = z
  .string({ error: durationHelp })
  .regex(durationPattern, { error: durationHelp })
  .refine((text) => !durationPattern.test(text) || parseDuration(text) !== null, { error: durationHelp })
  .transform((text): Milliseconds => parseDuration(text) ?? z.NEVER);

/** A duration that must not be zero: a budget of nothing can only fail. */
export const positiveDuration = z
  .string({ error: durationHelp })
  .regex(durationPattern, { error: durationHelp })
  .refine((text) => !durationPattern.test(text) || (parseDuration(text) ?? 0) > 0, { error: `${durationHelp}, more than zero` })
  .transform((text): Milliseconds => parseDuration(text) ?? z.NEVER);

const sizeText = z
  .string({ error: sizeHelp })
  .regex(sizePattern, { error: sizeHelp })
  .refine((text) => !sizePattern.test(text) || (parseSize(text) ?? 0) > 0, { error: `${sizeHelp}, more than zero` });

/** `8MiB` or a plain number of bytes; bytes in the program. */
export const byteSize = z.union([
  z.int({ error: sizeHelp }).min(1, { error: "must be at least 1 byte" }),
  sizeText.transform((text): number => parseSize(text) ?? z.NEVER),
]);

/** `2GiB` in the file, MiB in the program. */
export const memorySize = sizeText.transform((text): MiB => bytesToMiB(parseSize(text) ?? z.NEVER));

const portHelp = "expected a port number from 1 to 65535";
export const port = z.int({ error: portHelp }).min(1, { error: portHelp }).max(65_535, { error: portHelp });

export const count = (min: number, max: number): z.ZodInt => {
  const help = `expected a whole number from ${min} to ${max}`;
  return z.int({ error: help }).min(min, { error: help }).max(max, { error: help });
};

/** Names that become directory names, container names and Kubernetes names: RFC 1123 labels, short enough for a suffix. */
const nameHelp =
  "expected a name of at most 40 lower-case letters, digits and dashes, starting with a letter and not ending with a dash";
export const shortName = z.string({ error: nameHelp }).regex(/^[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?$/, { error: nameHelp });

const text = (help: string, pattern: RegExp): z.ZodString => z.string({ error: help }).regex(pattern, { error: help });

/** Host name or address, without a scheme or a port. */
export const host = text(
  "expected a host name or an IP address, without scheme or port",
  /^[A-Za-z0-9_](?:[A-Za-z0-9._:-]{0,252}[A-Za-z0-9])?$/,
);
export const bindAddress = text(
  "expected an IP address to bind to, such as 127.0.0.1 or ::1",
  /^(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F:]*:[0-9a-fA-F:.]*)$/,
);
export const cidr = text("expected a network such as 10.0.0.0/8 or a single address", /^[0-9a-fA-F.:]+(?:\/\d{1,3})?$/);
export const filePath = text("expected a path", /^[^\0]{1,1024}$/);
export const modelName = text(
  "expected a model name: letters, digits, '.', '_', '-' and '/', at most 128 characters, starting with a letter or digit",
  /^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$/,
);
/** Where Pulumi keeps state; without credentials, which stand in variables. */
export const backendUrl = text(
  "expected where Pulumi keeps state, such as file:///srv/state, s3://bucket or https://api.pulumi.com, without credentials",
  /^(?:file|s3|gs|azblob|https?|postgres):\/\/[^\s@]*$/,
);
/** Without credentials: a settings file is committed. */
export const httpAddress = text(
  "expected an address such as https://hub.example or http://proxy.example:3128, without credentials",
  /^https?:\/\/[^\s@/]+(?:\/[^\s@]*)?$/,
);
/** Only by TLS: whoever answers there decides which certificate is served. */
export const acmeDirectory = text(
  "expected the https address of an ACME directory, such as https://ca.example.net/acme/acme/directory",
  /^https:\/\/[A-Za-z0-9._:[\]-]{1,260}\/[A-Za-z0-9._~:/?=&,+%-]{1,500}$/,
);
/** Without a password: options stand in release records. */
export const redisUrl = text(
  "expected redis://host:6379/0, rediss:// for TLS or unix:///path, without a password: declare that as the secret REDIS_PASSWORD",
  /^(?:rediss?:\/\/(?:[^\s:@/]+@)?[^\s:@/]+(?::\d{1,5})?(?:\/\d{1,3})?|unix:\/\/(?:[^\s:@/]+@)?\/[^\s?]+(?:\?db=\d{1,3})?)$/,
);
export const rateLimit = text(
  "expected how much one key may ask for, such as 100/s or 600/min, 200000 tokens/min",
  /^\s*[1-9]\d{0,11}\s*(?:requests?|tokens?)?\s*\/\s*(?:s|second|m|min|minute|h|hour)(?:\s*,\s*[1-9]\d{0,11}\s*(?:requests?|tokens?)?\s*\/\s*(?:s|second|m|min|minute|h|hour))*\s*$/,
);
export const corsOrigins = text(
  "expected origins such as https://app.example, http://localhost:3000, or *",
  /^\s*(?:\*|https?:\/\/[^\s,/?#@]+)(?:\s*,\s*(?:\*|https?:\/\/[^\s,/?#@]+))*\s*$/,
);
export const variableName = text(
  "expected the name of an environment variable, such as API_KEY",
  /^[A-Za-z_][A-Za-z0-9_]{0,127}$/,
);
/** One line for a shell. */
export const shellCommand = text("expected a command for the shell, such as pass show shop/keys", /^[^\0\n]*[^\s\0][^\0\n]*$/);
export const gpuUuid = text(
  "expected the GPU's UUID as `nvidia-smi -L` prints it, such as GPU-8a56…",
  /^(?:GPU|MIG)-[0-9A-Za-z/-]{8,80}$/,
);
export const imageReference = text("expected a container image reference", /^[a-z0-9][a-z0-9._:/@-]{0,254}$/);
/** Of an image inside its registry, without tag. */
export const repositoryPath = text(
  "expected the path of an image, such as acme/gpuctl-services, without registry and tag",
  /^(?=.{1,200}$)[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:\/[a-z0-9]+(?:[._-]+[a-z0-9]+)*){0,7}$/,
);
export const labelMap = z.record(
  text("expected a label key", /^[A-Za-z0-9][A-Za-z0-9._/-]{0,252}$/),
  z.string({ error: "expected text; quote numbers and booleans" }),
);
