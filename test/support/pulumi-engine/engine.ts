/** The engine that tests run: built when nobody has, found when somebody has. */
import { spawn } from "node:child_process";
import { text } from "node:stream/consumers";
import { join } from "node:path";
import { cacheDirectory } from "../bed/prepared.js";

const script = join(import.meta.dirname, "build.sh");

/** The folder with `pulumi` and its Node language host. The first time takes minutes, and says on stderr what it does. */
export async function engineFolder(): Promise<string> {
  const child = spawn(script, [cacheDirectory()], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject).once("close", resolve);
  });
  const [printed, code] = await Promise.all([text(child.stdout), ended]);
  if (code !== 0) throw new Error("Pulumi's engine could not be built; what is missing is said above");
  return printed.trim();
}
