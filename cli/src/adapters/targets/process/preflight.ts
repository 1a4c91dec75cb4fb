import { randomBytes } from "node:crypto";
import { mkdir, rm, statfs, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { GpuctlError } from "../../../domain/errors.js";
import { modelsOf, type ServiceSpec } from "../../../domain/release.js";
import type { Finding } from "../../../ports.js";
import { currentUid } from "../../state/directories.js";
import { ensurePrivateDirectory } from "../../state/state-directory.js";
import { storageFailure } from "../../state/storage-failure.js";
import { freeMemory } from "./memory.js";
import { portFindings } from "./port-findings.js";
import { modelFor, pythonFor, stageWheel, type StagingParts } from "./staging.js";

const mebibyte = 1024 * 1024;
/** Below this a record or a log line may not fit any more. */
const diskBlockerBytes = 8 * mebibyte;
const diskWarningBytes = 1024 * mebibyte;
/** Python, ONNX Runtime and buffers of one service, beside its model. */
const serviceMiB = 200;

/** Phases 2 and 3 on this machine: every finding, good ones too, and nothing changed but what staging changes anyway. */
export async function preflight(
  parts: StagingParts,
  specs: readonly ServiceSpec[],
  ours: ReadonlySet<number>,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const writable = await stateFinding(parts);
  return [
    writable,
    ...(writable.level === "blocker" ? [] : [await diskFinding(parts.layout.state)]),
    ...(await unique(specs.map((spec) => pythonFinding(parts, spec)))),
    ...(writable.level === "blocker" ? [] : await unique(specs.map((spec) => codeFinding(parts, spec)))),
    ...(await modelFindings(parts, specs, signal)),
    ...(await portFindings(
      specs.map((spec) => ({ service: spec.service, ...spec.listen })),
      ours,
    )),
    ...specs.flatMap(exposureFinding),
    await memoryFinding(parts, specs),
  ];
}

/** Modes say nothing to root and nothing about read-only mounts, so a file is really written. */
async function stateFinding({ layout }: StagingParts): Promise<Finding> {
  const probe = join(layout.state, `.writable-${randomBytes(4).toString("hex")}`);
  try {
    await ensurePrivateDirectory(layout.state, currentUid());
    if (!layout.run.startsWith(layout.state)) await ensurePrivateDirectory(dirname(layout.run), currentUid());
    await mkdir(layout.run, { recursive: true, mode: 0o700 });
    await writeFile(probe, "x", { flag: "wx" });
    await rm(probe);
    return { level: "ok", code: "state-writable", what: `state directory ${layout.state}` };
  } catch (error) {
    await rm(probe, { force: true }).catch(() => undefined);
    const failure = storageFailure("the state directory cannot be written", layout.state, error);
    return blocker("state-not-writable", failure);
  }
}

async function diskFinding(path: string): Promise<Finding> {
  const { bavail, bsize } = await statfs(path);
  const free = bavail * bsize;
  const what = `${(free / 1e9).toFixed(1)} GB free in ${path}`;
  if (free >= diskWarningBytes) return { level: "ok", code: "disk-free", what };
  const level = free < diskBlockerBytes ? "blocker" : "warning";
  return {
    level,
    code: "disk-low",
    what,
    because: "logs, records and the index need space",
    nextSteps: ["gpuctl prune", `df -h ${path}`],
  };
}

async function pythonFinding(parts: StagingParts, spec: ServiceSpec): Promise<Finding> {
  const found = await pythonFor(parts, spec.python.lock).catch(asBlocker("python-missing"));
  return typeof found === "string" ? { level: "ok", code: "python-present", what: `Python environment ${found}` } : found;
}

async function codeFinding(parts: StagingParts, spec: ServiceSpec): Promise<Finding> {
  const found = await stageWheel(parts, spec.code.wheel).catch(asBlocker("code-missing"));
  return typeof found === "string" ? { level: "ok", code: "code-present", what: `code ${spec.code.file}` } : found;
}

async function modelFindings(parts: StagingParts, specs: readonly ServiceSpec[], signal: AbortSignal): Promise<Finding[]> {
  const refs = new Map(specs.flatMap(modelsOf).map((model) => [`${model.id}@${model.manifest}`, model] as const));
  const findings: Finding[] = [];
  for (const ref of refs.values()) {
    const model = await modelFor(parts, ref).catch(asBlocker("model-missing"));
    if ("level" in model) {
      findings.push(model);
      continue;
    }
    const problems = await parts.models.verifyQuickly(model, signal);
    for (const { file, because } of problems) {
      const nextSteps = ["gpuctl models fetch, which repairs it", "gpuctl models verify"];
      findings.push({
        level: "blocker",
        code: "model-corrupted",
        what: `a file of the model ${ref.name} is damaged: ${file}`,
        because,
        nextSteps,
      });
    }
    if (problems.length === 0) findings.push({ level: "ok", code: "model-present", what: `model ${ref.id}@${ref.revision}` });
  }
  return findings;
}

/** A public address without a key lets anybody read the index; one without TLS shows the key to the network. */
function exposureFinding(spec: ServiceSpec): Finding[] {
  const { host, port } = spec.listen;
  if (isLoopback(host)) return [];
  const address = `${spec.service} on ${host}:${port.toString()}`;
  if (!("API_KEYS" in spec.secrets)) {
    return [
      {
        level: "blocker",
        code: "public-without-key",
        what: `${address} would answer anybody who can reach this machine`,
        because: "it binds to an address that is not loopback, and no API_KEYS secret is configured",
        nextSteps: ["bind to 127.0.0.1", `or add to the service: secrets: { API_KEYS: { file: api-keys.txt } }`],
      },
    ];
  }
  const because = "the process target speaks plain HTTP";
  return [
    {
      level: "warning",
      code: "public-without-tls",
      what: `${address} carries its key in the clear`,
      because,
      nextSteps: ["put a TLS proxy in front of it"],
    },
  ];
}

export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}

async function memoryFinding(parts: StagingParts, specs: readonly ServiceSpec[]): Promise<Finding> {
  const { freeMiB, totalMiB } = await freeMemory();
  const refs = specs.flatMap(modelsOf);
  const models = await Promise.all(refs.map((ref) => parts.models.find(ref)));
  // Weights are held once more by the runtime's own arena while a session is made.
  const needed = models.reduce((sum, model) => sum + (2 * (model?.bytes ?? 0)) / mebibyte, specs.length * serviceMiB);
  const what = `${freeMiB.toString()} of ${totalMiB.toString()} MiB memory available`;
  if (freeMiB >= needed) return { level: "ok", code: "memory-free", what };
  const because = `${specs.length.toString()} candidates need about ${needed.toFixed(0)} MiB beside what runs now`;
  return {
    level: "warning",
    code: "memory-low",
    what,
    because,
    nextSteps: ["end other programs", "or deploy one service at a time: gpuctl deploy embedder"],
  };
}

function blocker(code: string, error: GpuctlError): Finding {
  const because = error.because === undefined ? {} : { because: error.because };
  return { level: "blocker", code, what: error.message, ...because, nextSteps: error.nextSteps };
}

const asBlocker =
  (code: string) =>
  (error: unknown): Finding => {
    if (error instanceof GpuctlError) return blocker(code, error);
    throw error;
  };

/** Three services with one wheel make one line. */
async function unique(pending: readonly Promise<Finding>[]): Promise<Finding[]> {
  const findings = await Promise.all(pending);
  return [...new Map(findings.map((finding) => [finding.what, finding])).values()];
}
