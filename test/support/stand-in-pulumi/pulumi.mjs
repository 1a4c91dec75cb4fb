/**
 * Stands in for `pulumi` on PATH: answers with what the real one printed (recordings of 3.200), as STAND_IN/answers.json says, and
 * writes down in STAND_IN/calls.jsonl how it was called: arguments, folder, and which variables it was given.
 */
import { appendFileSync, readFileSync } from "node:fs";
import { join } from "node:path";

const folder = process.env["STAND_IN"];
let stop = () => (process.exitCode = 143);
// Before the call is written down, so that whoever has read of it may ask this process to stop.
process.on("SIGTERM", () => stop());
const args = process.argv.slice(2);
const given = ["PULUMI_BACKEND_URL", "HCLOUD_TOKEN", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_SKIP_UPDATE_CHECK"];
const env = Object.fromEntries(given.filter((name) => process.env[name] !== undefined).map((name) => [name, process.env[name]]));
appendFileSync(join(folder, "calls.jsonl"), `${JSON.stringify({ args, cwd: process.cwd(), env })}\n`);

const answers = JSON.parse(readFileSync(join(folder, "answers.json"), "utf8"));
const asked = args.join(" ");
const earlier = readFileSync(join(folder, "calls.jsonl"), "utf8")
  .split("\n")
  .filter((line) => line !== "" && JSON.parse(line).args.join(" ") === asked).length;
const fitting = answers.filter(({ begins }) => asked.startsWith(begins));
const answer = fitting[Math.min(earlier, fitting.length) - 1];
if (answer === undefined) {
  process.stderr.write(`error: the stand-in has no answer to pulumi ${asked}\n`);
  process.exitCode = 255;
} else {
  if (answer.file !== undefined) process.stdout.write(readFileSync(answer.file));
  if (answer.stderr !== undefined) process.stderr.write(answer.stderr);
  process.exitCode = answer.code ?? 0;
  if (answer.waits === true) {
    // As Pulumi does: asked to stop, it ends what runs and writes its state first, and takes longer than others are given.
    const alive = setInterval(() => undefined, 1000);
    stop = () =>
      setTimeout(() => {
        clearInterval(alive);
        appendFileSync(join(folder, "calls.jsonl"), `${JSON.stringify({ args: ["state written"], cwd: "", env: {} })}\n`);
        process.exitCode = 255;
      }, 2500);
  }
}
