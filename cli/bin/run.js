#!/usr/bin/env node
// Parses on old Node too, so that a wrong version gets a sentence instead of a syntax error. Answers `--version` and the
// root help from files, without loading a command framework: those are what people and scripts ask most.
import * as fs from "fs";
import * as nodeModule from "module";
import { fileURLToPath } from "url";

const packageRoot = fileURLToPath(new URL("../../", import.meta.url));
const oldestNode = [22, 19];

/** Exits on the stream's own time: what was written is flushed first. */
function answer(text) {
  process.stdout.on("error", (error) => {
    if (error.code !== "EPIPE") throw error;
  });
  process.stdout.write(text);
}

function refuse(text, exitCode) {
  process.stderr.write(`${text}\n`);
  process.exitCode = exitCode;
}

function nodeIsTooOld() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  return major < oldestNode[0] || (major === oldestNode[0] && minor < oldestNode[1]);
}

/** Colour is decided here, once, before anything that prints is loaded; FORCE_COLOR=0 reaches every library. */
function decideColour(argv) {
  const flags = argv.slice(0, argv.includes("--") ? argv.indexOf("--") : argv.length);
  const plain = process.env.NO_COLOR || process.env.TERM === "dumb" || flags.includes("--no-color") || flags.includes("--json");
  if (plain) {
    process.env.FORCE_COLOR = "0";
    process.env.NO_COLOR = "1";
  }
}

/** Compiled code is kept in the user's own cache: the default is a folder in /tmp that anybody may have made first. */
function compileCache() {
  const { GPUCTL_CACHE_DIR: own, XDG_CACHE_HOME: xdg, HOME: home } = process.env;
  if (own) return `${own}/compile`;
  if (xdg || home) return `${xdg || `${home}/.cache`}/gpuctl/compile`;
  return null;
}

function packageVersion() {
  return JSON.parse(fs.readFileSync(`${packageRoot}package.json`, "utf8")).version;
}

function asksForVersion(argv) {
  return argv[0] === "--version" || argv[0] === "-v";
}

function asksForRootHelp(argv) {
  const words = argv.filter((word) => !["--no-color", "--json", "-q", "--quiet"].includes(word));
  return words.length === 0 || (words.length === 1 && ["--help", "-h", "help"].includes(words[0]));
}

function jsonDocument(result) {
  return `${JSON.stringify({ schemaVersion: 1, ok: true, result, warnings: [] }, null, 2)}\n`;
}

function versionText(argv) {
  const version = packageVersion();
  if (!argv.includes("--json")) return `gpuctl/${version} ${process.platform}-${process.arch} node-${process.version}\n`;
  return jsonDocument({ gpuctl: version, platform: process.platform, arch: process.arch, node: process.version });
}

function main() {
  const argv = process.argv.slice(2);
  if (nodeIsTooOld()) {
    const wanted = oldestNode.join(".");
    const found = process.versions.node;
    refuse(
      `gpuctl needs Node ${wanted} or newer and this is Node ${found}: install Node 24 (https://nodejs.org) and run it again.`,
      5,
    );
    return;
  }
  if (asksForVersion(argv)) {
    answer(versionText(argv));
    return;
  }
  const help = `${packageRoot}dist/help.txt`;
  if (!fs.existsSync(help)) {
    refuse("gpuctl has not been built in this checkout: type `npm run build` first.", 1);
    return;
  }
  if (asksForRootHelp(argv)) {
    const text = fs.readFileSync(help, "utf8");
    answer(argv.includes("--json") ? jsonDocument({ help: text }) : text);
    return;
  }
  decideColour(argv);
  const cache = compileCache();
  if (cache !== null) nodeModule.enableCompileCache(cache);
  // Not awaited: `gpuctl --help | head -1` would end in a warning about an unsettled top-level await.
  import("../../dist/main.js").then((dispatcher) => dispatcher.main(argv, packageRoot));
}

main();
