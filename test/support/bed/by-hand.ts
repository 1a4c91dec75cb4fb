/**
 * A bed to try things on, until Ctrl-C: `node --import ./test/support/run-typescript.mjs test/support/bed/by-hand.ts gpu-1:1 cpu-1`.
 * A number after a name is its number of GPUs.
 */
import { randomUUID } from "node:crypto";
import { Bed } from "./bed.js";

const specs = process.argv.slice(2).map((text) => {
  const [name = "", gpus = "0"] = text.split(":");
  return { name, gpus: Array.from({ length: Number(gpus) }, () => ({ uuid: `GPU-${randomUUID()}` })) };
});
const started = performance.now();
const bed = await Bed.start(specs);
const say = (line: string): void => void process.stdout.write(`${line}\n`);
say(
  `ready in ${((performance.now() - started) / 1000).toFixed(1)} s; registry ${bed.registry.address}, way out ${bed.proxy.url}`,
);
for (const { name } of specs) say(`${name}: ssh ${bed.sshArguments(bed.host(name)).join(" ")}`);
await new Promise((resolve) => process.once("SIGINT", resolve).once("SIGTERM", resolve));
await bed.stop();
