/**
 * Reads what the preflight script prints. A probe's record is one line, `<name> <stdout> <stderr>`, whose last two words are encoded
 * (`b` + base64 or `x` + hex), so that nothing a tool prints can pass for a record. stdout ends with a newline and the exit status.
 */
export const probeNames = [
  "clock",
  "identity",
  "sudo",
  "os-release",
  "kernel",
  "memory",
  "synchronised",
  "data-disk",
  "tools",
  "docker-path",
  "docker-access",
  "docker-version",
  "docker-info",
  "docker-ps",
  "docker-disk",
  "daemon-json",
  "compose",
  "listeners",
  "listeners-proc",
  "addresses",
  "ufw",
  "docker-user",
  "firewalld",
  "module",
  "module-disk",
  "modules",
  "library",
  "pci",
  "toolkit",
  "cdi-files",
  "packages",
  "holds",
  "unattended",
  "secure-boot",
  "kernel-log",
  "reboot-required",
  "smi-query",
  "smi-list",
  "smi-apps",
  "gpu-owners",
] as const;
export type ProbeName = (typeof probeNames)[number];

/** What one probe said. */
export type Answer =
  /** `code` is the tool's exit status; 127 means that it is not installed. */
  | { state: "answered"; code: number; stdout: string; stderr: string }
  /** `stdout` is what it had said when its time was up. */
  | { state: "hangs"; stdout: string; because: string }
  | { state: "missing"; because: string };

export interface Answers {
  /** Why some probes have no answer, or null when the script came to its end. */
  incomplete: string | null;
  of(name: ProbeName): Answer;
}

export const scriptBegin = "gpuctl-preflight begin";
export const scriptEnd = "gpuctl-preflight end";
/** Word in place of the two encoded ones for a probe that is not worth asking, followed by nothing. */
export const skippedWord = "skipped";

/** `ended` is why the output stops, when something outside of the script made it stop. */
export function readAnswers(output: string, ended: string | null): Answers {
  const lines = output.split("\n").map((line) => line.replace(/\r$/, ""));
  // The last line has no newline: it is empty, or was cut off.
  lines.pop();
  const begun = new Set<ProbeName>();
  const answers = new Map<ProbeName, Answer>();
  for (const line of lines) {
    const [word, first, second, ...more] = line.split(" ");
    const name = probeNames.find((known) => known === word);
    if (name === undefined || more.length > 0) continue;
    if (first === "begin" && second === undefined) begun.add(name);
    else if (first === skippedWord && second === undefined) answers.set(name, skipped);
    else if (first !== undefined && second !== undefined) answers.set(name, readRecord(first, second));
  }
  const incomplete = whyIncomplete(lines, ended);
  return {
    incomplete,
    of(name) {
      const hanging = begun.has(name) ? "it was asked and had not answered when the output ended" : "it was not asked";
      return answers.get(name) ?? { state: "missing", because: `${hanging}${incomplete === null ? "" : `: ${incomplete}`}` };
    },
  };
}

const skipped: Answer = { state: "missing", because: "it was not asked, as what it depends on does not answer" };

function whyIncomplete(lines: readonly string[], ended: string | null): string | null {
  if (lines.includes(scriptEnd)) return null;
  if (ended !== null) return ended;
  return lines.includes(scriptBegin) ? "the output ends in the middle" : "the output is not that of the preflight script";
}

/** `timeout` says 124, and 137 where it had to use force; BusyBox's says 143. */
const timeOuts: ReadonlySet<number> = new Set([124, 137, 143]);

function readRecord(out: string, err: string): Answer {
  const [said, stderr] = [decode(out), decode(err)];
  if (said === null || stderr === null) return { state: "missing", because: "its record cannot be read" };
  const end = said.lastIndexOf("\n");
  const status = said.slice(end + 1).trim();
  if (end < 0 || !/^\d{1,3}$/.test(status)) return { state: "missing", because: "its output is too long" };
  const stdout = said.slice(0, end);
  const code = Number(status);
  if (timeOuts.has(code)) return { state: "hangs", stdout, because: "it did not answer in time" };
  return { state: "answered", code, stdout, stderr };
}

/** Text of `b<base64>` or `x<hex>`, or null when it is neither. */
function decode(word: string): string | null {
  const body = word.slice(1);
  if (word.startsWith("b") && /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(body)) {
    return Buffer.from(body, "base64").toString("utf8");
  }
  if (word.startsWith("x") && /^(?:[0-9a-f]{2})*$/i.test(body)) return Buffer.from(body, "hex").toString("utf8");
  return null;
}
