import { dirname } from "node:path";
import { Failed, GpuctlError } from "../../domain/errors.js";

/** The `code` of a system error, or "". */
export function errorCode(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}

/** Wraps a file system error once, in words a person can act on. */
export function storageFailure(what: string, path: string, cause: unknown): GpuctlError {
  if (cause instanceof GpuctlError) return cause;
  const [because, next] = explain(errorCode(cause), path, cause);
  return new Failed(`${what}: ${path}`, { because, nextSteps: next, cause, data: { path, code: errorCode(cause) } });
}

function explain(code: string, path: string, cause: unknown): [string, readonly string[]] {
  const directory = dirname(path);
  switch (code) {
    case "ENOSPC":
      return [
        "the disk is full; nothing was left half-written",
        [`df -h ${directory}`, "gpuctl prune", "then run the command again"],
      ];
    case "EDQUOT":
      return [
        "the disk quota is used up; nothing was left half-written",
        ["quota -s", "gpuctl prune", "then run the command again"],
      ];
    case "EROFS":
      return [
        "the file system is mounted read-only",
        [`findmnt -T ${directory}`, "or set GPUCTL_STATE_HOME to a directory that can be written"],
      ];
    case "EACCES":
    case "EPERM":
      return ["permission was denied", [`ls -ld ${directory}`, "or set GPUCTL_STATE_HOME to a directory of your own"]];
    default:
      return [cause instanceof Error ? cause.message : String(cause), ["gpuctl doctor"]];
  }
}
