import { run } from "@oclif/core/run";
import { settings } from "@oclif/core/settings";
import { errorText, reportError } from "./error-report.js";
import { processIo } from "./io.js";
import { asksForJson, jsonDocument } from "./json-document.js";

const valueFlags = new Set(["--config", "--environment", "-e"]);
const globalFlags = new Set([...valueFlags, "--json", "--quiet", "-q", "--no-color"]);

/** How long something forgotten (a socket, a timer) may keep a finished command from ending. */
const lingerMs = 1000;

/** Runs one command line. Commands end in their own `catch`; what arrives here failed before or around one. */
export async function main(argv: readonly string[], packageRoot: string): Promise<void> {
  // A checkout has tsx, by which oclif would run the sources where NODE_ENV is `test` or `development`.
  settings.enableAutoTranspile = false;
  process.once("uncaughtException", (thrown) => {
    tell(thrown, argv);
    end();
  });
  try {
    await run(commandFirst(argv), { root: packageRoot, devPlugins: false, userPlugins: false });
  } catch (thrown) {
    tell(thrown, argv);
  }
  // Unreferenced: it only fires when something else keeps the process alive.
  setTimeout(end, lingerMs).unref();
}

function tell(thrown: unknown, argv: readonly string[]): void {
  const io = processIo();
  const report = reportError(thrown, { commandId: "", signal: null, debug: Boolean(io.env["GPUCTL_DEBUG"]) });
  io.setExitCode(report.exitCode);
  if (asksForJson(argv)) io.stdout.write(jsonDocument({ ok: false, error: report }));
  else io.stderr.write(errorText(report));
}

function end(): void {
  if (process.env["GPUCTL_DEBUG"]) process.stderr.write(`still open: ${process.getActiveResourcesInfo().join(", ")}\n`);
  // eslint-disable-next-line no-restricted-properties -- the result is written (pipes, files and terminals are written synchronously)
  process.exit();
}

/** `gpuctl --json -e prod deploy` means `gpuctl deploy --json -e prod`: global flags may come first. */
export function commandFirst(argv: readonly string[]): string[] {
  let at = 0;
  while (globalFlags.has(argv[at] ?? "")) at += valueFlags.has(argv[at] ?? "") ? 2 : 1;
  const words = argv.slice(at);
  if (words.length === 0 || words[0]?.startsWith("-") === true) return [...argv];
  const end = words.includes("--") ? words.indexOf("--") : words.length;
  return [...words.slice(0, end), ...argv.slice(0, at), ...words.slice(end)];
}
