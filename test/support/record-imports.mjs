/** Preloaded into the bin by test/unit/startup-imports.test.ts: tells what was loaded, and whether anything was connected to. */
import { writeFileSync } from "node:fs";
import { createRequire, registerHooks } from "node:module";
import net from "node:net";

const loaded = [];
const connections = [];
registerHooks({
  load(url, context, next) {
    loaded.push(url);
    return next(url, context);
  },
});

const dns = createRequire(import.meta.url)("node:dns");
for (const [owner, name] of [
  [net.Socket.prototype, "connect"],
  [net.Server.prototype, "listen"],
  [dns, "lookup"],
]) {
  const original = owner[name];
  owner[name] = function (...args) {
    connections.push(name);
    return original.apply(this, args);
  };
}

process.on("exit", () => writeFileSync(process.env.RECORD_IMPORTS_TO, JSON.stringify({ loaded, connections })));
