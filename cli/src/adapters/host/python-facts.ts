import type { PythonFacts } from "../../domain/doctor/facts.js";
import type { Executor } from "../../ports.js";
import type { Environment } from "../state/directories.js";
import { ask } from "./asking.js";

const candidates = ["python3", "python3.13", "python3.12", "python3.11"];

const probe = `import sys, json
def has(name):
    try:
        __import__(name)
        return True
    except ImportError:
        return False
print(json.dumps([list(sys.version_info[:3]), sys.executable, has("venv") and has("ensurepip")]))`;

/** The first Python that can make the services' environment, else the first one that there is. */
export async function inspectPython(
  executor: Executor,
  env: Environment,
  environment: () => Promise<string | null>,
  signal: AbortSignal,
): Promise<PythonFacts> {
  const [made, ...tried] = await Promise.all([
    environment(),
    ...(env["GPUCTL_PYTHON"] ? [env["GPUCTL_PYTHON"]] : candidates).map((name) => tryPython(executor, name, signal)),
  ]);
  const present = tried.filter((one) => one.state !== "absent");
  const able = present.find((one) => one.state === "found" && one.venv && (one.version[0] > 3 || one.version[1] >= 11));
  const best = able ?? present[0] ?? tried[0] ?? { command: "python3", state: "absent" };
  return { ...best, environment: made };
}

type Tried = { command: string } & (
  | { state: "found"; version: readonly [number, number, number]; executable: string; venv: boolean }
  | { state: "absent" }
  | { state: "broken"; detail: string }
);

async function tryPython(executor: Executor, command: string, signal: AbortSignal): Promise<Tried> {
  const answer = await ask(executor, [command, "-c", probe], signal);
  if (answer.state === "absent") return { command, state: "absent" };
  if (answer.state === "hangs") return { command, state: "broken", detail: "it did not answer within 10 s" };
  const { code, stdout, stderr } = answer.result;
  const read = /^\[\[(\d+), (\d+), (\d+)\], ("(?:[^"\\]|\\.)*"), (true|false)\]\s*$/.exec(stdout);
  if (code !== 0 || read === null) {
    const said = stderr.trim().split("\n").at(-1) ?? "";
    return { command, state: "broken", detail: said === "" ? `it ended with status ${code ?? "unknown"}` : said.slice(0, 200) };
  }
  const version = [Number(read[1]), Number(read[2]), Number(read[3])] as const;
  return { command, state: "found", version, executable: JSON.parse(read[4] ?? '""') as string, venv: read[5] === "true" };
}
