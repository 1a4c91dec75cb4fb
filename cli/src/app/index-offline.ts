import { Failed, PreflightRefused } from "../domain/errors.js";
import { ms } from "../domain/units.js";
import type { ServingTools } from "./serving-tool.js";

/** Reading a large index takes long; a tool that hangs is ended. */
const deadline = ms(12 * 3600_000);

/** Runs the index's offline tool on its directory; it refuses while an instance writes there. */
export async function runIndexTool(
  tools: ServingTools,
  command: string,
  directory: string,
  args: readonly string[] = [],
): Promise<Readonly<Record<string, unknown>>> {
  const python = await tools.python.find();
  if (python === null) {
    throw new PreflightRefused("the services' Python environment is missing", { nextSteps: ["gpuctl models fetch"] });
  }
  const run = await tools.executor.run(
    {
      argv: [python, "-m", "gpuctl_serving.index.tool", command, "--index-dir", directory, ...args],
      env: { PYTHONPATH: tools.paths.wheel },
    },
    {
      deadline,
      signal: tools.signal,
      onLine: (line, stream) => {
        if (stream === "stderr") show(tools, command, line);
      },
    },
  );
  const document = parse(run.stdout.trim().split("\n").at(-1) ?? "");
  const error = document["error"];
  if (typeof error === "string") {
    throw new Failed(`index ${command} was refused`, { because: error.replace(/\.$/, ""), nextSteps: ["gpuctl status"] });
  }
  if (run.code === null || Object.keys(document).length === 0) {
    const said = run.stderr.trim().split("\n").slice(-3).join("\n");
    throw new Failed(`index ${command} failed`, {
      because: said === "" ? `it ended with ${String(run.code ?? run.signal)} and said nothing` : said,
      nextSteps: ["gpuctl doctor", "then run it again"],
    });
  }
  return document;
}

function show(tools: ServingTools, command: string, line: string): void {
  const { phase, done, of } = parse(line);
  if (typeof phase !== "string" || typeof done !== "number") return;
  const total = typeof of === "number" && of > 0 ? of : null;
  tools.progress.emit({ kind: "amount", label: `${command}: ${phase}`, done, total, unit: "steps" });
}

function parse(text: string): Readonly<Record<string, unknown>> {
  try {
    const value = JSON.parse(text) as unknown;
    return typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
  } catch {
    return {};
  }
}
