import { Failed } from "../../domain/errors.js";
import type { NodeFacts } from "../../domain/preflight/facts.js";
import { readNodeFacts } from "../../domain/preflight/read-facts.js";
import { ms } from "../../domain/units.js";
import type { Clock } from "../../ports.js";
import type { RemoteHost } from "../../ports/remote-host.js";
import { preflightScript, type ScriptOptions } from "./script.js";

/** Every probe has its own limit; this one is for a host on which all of them hang, or a tool that cannot even be killed. */
const patience = ms(150_000);

interface NodeQuestion extends ScriptOptions {
  clock: Pick<Clock, "now">;
  signal: AbortSignal;
}

/**
 * Looks at a node without changing anything: one script on stdin of one shell. What was said before a connection's deadline is kept,
 * so a driver that hangs for ever costs only its own answers.
 */
export async function collectNodeFacts(
  host: Pick<RemoteHost, "run">,
  { clock, signal, ...options }: NodeQuestion,
): Promise<NodeFacts> {
  const said: string[] = [];
  const asked = clock.now().getTime();
  const answers: number[] = [];
  const onLine = (line: string, stream: "stdout" | "stderr"): void => {
    if (stream !== "stdout") return;
    if (/^clock [bx]\S* [bx]/.test(line)) answers.push(clock.now().getTime());
    said.push(line);
  };
  const ended = await run(host, preflightScript(options), onLine, signal);
  const reading = { asked, answered: answers[0] ?? clock.now().getTime() };
  return readNodeFacts(said.map((line) => `${line}\n`).join(""), ended, reading);
}

/** Why the output stops, or null when the script came to its own end. */
async function run(
  host: Pick<RemoteHost, "run">,
  input: string,
  onLine: (line: string, stream: "stdout" | "stderr") => void,
  signal: AbortSignal,
): Promise<string | null> {
  try {
    const { code, stderr } = await host.run({ argv: ["sh"], input }, { deadline: patience, signal, onLine });
    if (code === 0) return null;
    const words = stderr.trim().split("\n").at(-1) ?? "";
    return words === "" ? `sh ended with status ${code ?? "unknown"}` : words.slice(0, 200);
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof Failed)) throw error;
    return `it took longer than ${patience / 1000} s`;
  }
}
