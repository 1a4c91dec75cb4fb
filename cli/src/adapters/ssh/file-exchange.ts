import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { Failed } from "../../domain/errors.js";
import {
  blockBytes,
  damagedStatus,
  modeScript,
  readScript,
  receiveScript,
  saysMissing,
  surveyScript,
  writeScript,
  type SendFrom,
} from "../../domain/ssh/remote-files.js";
import type { TransferOptions } from "../../ports.js";
import type { Verdict } from "./host-shell.js";
import type { Script } from "./script-run.js";
import { lastLines } from "./unreachable.js";

const maxFileBytes = 64 * 1024 * 1024;

/** Runs scripts on one host within one time limit. */
export interface Exchange {
  host: string;
  run(script: Script): Promise<Verdict>;
  /** Ends what runs, for this reason. */
  stop(reason: Error): void;
}

interface Said {
  verdict: Verdict;
  stdout: Buffer;
  stderr: string;
}

export async function readRemoteFile(exchange: Exchange, path: string, options: TransferOptions): Promise<Uint8Array | null> {
  const said = await ask(exchange, readScript(path), `${path} was read`, null, options.onBytes);
  if (said.verdict.code === 0) return said.stdout;
  if (saysMissing(said.stderr)) return null;
  throw couldNot(exchange, "read", path, said);
}

export async function writeRemoteFile(
  exchange: Exchange,
  file: { path: string; content: string | Uint8Array; mode: number },
  options: TransferOptions,
): Promise<void> {
  const bytes = Buffer.from(file.content);
  const script = writeScript(file.path, bytes.length, file.mode);
  const said = await ask(exchange, script, `${file.path} was written`, Readable.from([bytes]));
  if (said.verdict.code !== 0) throw couldNot(exchange, "written", file.path, said);
  options.onBytes?.(bytes.length);
}

/** A file of this machine and what it is to be on the host. */
export interface FileToSend {
  local: string;
  remote: string;
  mode: number;
  sha256: string;
}

/** Sends a file of this machine; see `RemoteHost.sendFile`. */
export async function sendRemoteFile(exchange: Exchange, file: FileToSend, options: TransferOptions): Promise<void> {
  const bytes = await sizeOf(file.local);
  const doing = `${file.remote} was sent`;
  const survey = await ask(exchange, surveyScript(file.remote, file.sha256), doing, null);
  const [kind, length = "0", hash = "-"] = survey.stdout.toString().trim().split(" ");
  if (survey.verdict.code !== 0 || (kind !== "whole" && kind !== "part")) throw couldNot(exchange, "sent", file.remote, survey);
  if (kind === "whole") {
    const said = await ask(exchange, modeScript(file.remote, file.mode), doing, null);
    if (said.verdict.code !== 0) throw couldNot(exchange, "sent", file.remote, said);
  } else {
    const from = await whereToBegin(file.local, bytes, Number(length), hash);
    const input = counted(file.local, from === "anew" ? 0 : from.block * blockBytes, exchange, options.onBytes);
    const script = receiveScript({ path: file.remote, sha256: file.sha256, bytes, mode: file.mode }, from);
    const said = await ask(exchange, script, doing, input);
    if (said.verdict.code !== 0) throw couldNot(exchange, "sent", file.remote, said);
  }
  options.onBytes?.(bytes);
}

async function sizeOf(local: string): Promise<number> {
  try {
    return (await stat(local)).size;
  } catch (cause) {
    throw new Failed(`${local} cannot be sent`, { because: (cause as Error).message, cause });
  }
}

/** After what the host has when that is the beginning of this file. */
async function whereToBegin(local: string, bytes: number, there: number, hash: string): Promise<SendFrom> {
  if (there === 0) return { block: 0 };
  if (there > bytes) return "anew";
  const own = createHash("sha256");
  await pipeline(createReadStream(local, { end: there - 1 }), own);
  return own.digest("hex") === hash ? { block: there / blockBytes } : "anew";
}

function counted(local: string, from: number, exchange: Exchange, onBytes: TransferOptions["onBytes"]): Readable {
  let done = from;
  const meter = new Transform({
    transform(chunk: Buffer, _encoding, next) {
      done += chunk.length;
      onBytes?.(done);
      next(null, chunk);
    },
  });
  pipeline(createReadStream(local, { start: from, highWaterMark: 256 * 1024 }), meter).catch((cause: unknown) => {
    // The host closes its end when the script is over, whatever was still to come; only our own file is our failure.
    if (cause instanceof Error && "syscall" in cause)
      exchange.stop(new Failed(`${local} could not be read`, { because: cause.message, cause }));
  });
  return meter;
}

async function ask(
  exchange: Exchange,
  text: string,
  doing: string,
  input: Readable | null,
  onBytes?: (done: number) => void,
): Promise<Said> {
  const stdout: Buffer[] = [];
  let bytes = 0;
  let stderr = "";
  const verdict = await exchange.run({
    text,
    input,
    doing,
    onStdout: (chunk) => {
      bytes += chunk.length;
      if (bytes > maxFileBytes) exchange.stop(new Failed(`more than 64 MiB came while ${doing} on ${exchange.host}`));
      else stdout.push(chunk);
      onBytes?.(bytes);
    },
    onStderr: (chunk) => {
      stderr = (stderr + chunk.toString()).slice(-4000);
    },
  });
  return { verdict, stdout: Buffer.concat(stdout), stderr };
}

function couldNot(exchange: Exchange, done: "read" | "written" | "sent", path: string, said: Said): Failed {
  const { code, signal } = said.verdict;
  // dd counts its records on stderr, also when all went well.
  const told = said.stderr.split("\n").filter((line) => !/^\d+\+\d+ records|^\d+ bytes/.test(line));
  const end = signal === null ? `exit status ${code ?? "unknown"}` : `ended by ${signal}`;
  const why = lastLines(told.join("\n")) || end;
  const again = code === damagedStatus && done === "sent" ? ["run the same command again: what has arrived is continued"] : [];
  return new Failed(`${path} could not be ${done} on ${exchange.host}`, { because: why, nextSteps: again });
}
