/**
 * What a login shell prints before a command (a banner in `.bashrc`) arrives on the same stdout as the command's output, and the
 * system's ssh says 255 for a lost connection, a command that ended by a signal, and a status of 255. A frame around the output
 * tells them apart: a line with the pid of its group's leader before it, and, where the transport has no exit status of its own, one after it.
 */
const mark = "\u001e";
/** What is kept of output before the frame, bytes: enough to say who is talking. */
const preludeLimit = 2048;

/** The first argument of the shell where somebody else leads its process group, else the shell itself. */
const leader = "${1:-$$}";

/** @param token  random and free of special characters; nothing but the frame may contain it */
export function framed(script: string, token: string, status: "printed" | "native"): string {
  const line = (kind: "b" | "e", value: string): string => `printf '\\036%s %s\\n' ${token}${kind} ${value}`;
  if (status === "native") return `${line("b", leader)}; ${script}`;
  return `${line("b", leader)}; ( ${script}\n); s=$?; ${line("e", "$s")}; exit $s`;
}

/** Takes the stdout of a framed script apart, however it is cut into chunks. */
export class FrameReader {
  readonly #token: string;
  readonly #onBody: (chunk: Buffer) => void;
  #pending: Buffer = Buffer.alloc(0);
  #prelude = "";
  #pid: number | null = null;
  #status: number | null = null;

  constructor(token: string, onBody: (chunk: Buffer) => void) {
    this.#token = token;
    this.#onBody = onBody;
  }

  /** Pid of what leads the script's process group on the host; null until the script has begun. */
  get pid(): number | null {
    return this.#pid;
  }

  /** Exit status in the shell's way (128 + n for signal n); null until it was printed. */
  get status(): number | null {
    return this.#status;
  }

  /** The beginning of what the host printed before the script began. */
  get prelude(): string {
    return this.#prelude.trim();
  }

  push(chunk: Buffer): void {
    let rest = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    for (;;) {
      const marker = Buffer.from(`${mark}${this.#token}${this.#pid === null ? "b" : "e"} `);
      const at = rest.indexOf(marker);
      const end = at === -1 ? -1 : rest.indexOf("\n", at);
      if (end === -1) {
        const keepFrom = at === -1 ? startOfPart(rest, marker) : at;
        this.#emit(rest.subarray(0, keepFrom));
        this.#pending = rest.subarray(keepFrom);
        return;
      }
      this.#emit(rest.subarray(0, at));
      this.#take(Number(rest.toString("latin1", at + marker.length, end)));
      rest = rest.subarray(end + 1);
    }
  }

  /** Hands out what looked like the beginning of a frame and was none. */
  end(): void {
    this.#emit(this.#pending);
    this.#pending = Buffer.alloc(0);
  }

  #take(value: number): void {
    if (this.#pid === null) this.#pid = value;
    else this.#status = value;
  }

  #emit(bytes: Buffer): void {
    if (bytes.length === 0) return;
    if (this.#pid !== null) this.#onBody(bytes);
    else if (this.#prelude.length < preludeLimit) this.#prelude += bytes.toString("utf8", 0, preludeLimit);
  }
}

/** Where a marker may begin at the end of the bytes; their length when it does not. */
function startOfPart(bytes: Buffer, marker: Buffer): number {
  const from = bytes.lastIndexOf(mark);
  if (from === -1 || bytes.length - from >= marker.length) return bytes.length;
  return marker.subarray(0, bytes.length - from).equals(bytes.subarray(from)) ? from : bytes.length;
}

/** Signals by the numbers of Linux, where the hosts run. */
const signalNames: Readonly<Record<number, string>> = {
  1: "SIGHUP",
  2: "SIGINT",
  3: "SIGQUIT",
  4: "SIGILL",
  6: "SIGABRT",
  7: "SIGBUS",
  8: "SIGFPE",
  9: "SIGKILL",
  11: "SIGSEGV",
  13: "SIGPIPE",
  14: "SIGALRM",
  15: "SIGTERM",
};

/** A shell's status as code or signal. A program that itself exits with 128 + n cannot be told from one that signal n ended. */
export function verdictOf(status: number): { code: number | null; signal: string | null } {
  const signal = signalNames[status - 128];
  return signal === undefined ? { code: status, signal: null } : { code: null, signal };
}
