/** What every bed is made of: fetched, checked and unpacked once, kept in the cache. */
import { homedir } from "node:os";
import { join } from "node:path";
import { must } from "./shell.js";

const script = join(import.meta.dirname, "prepare.sh");

export const cacheDirectory = (): string =>
  process.env["GPUCTL_CACHE_DIR"] || join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "gpuctl");

/** Where beds that run keep what is theirs: beside the cache, on a file system that overlays work on. */
export const bedsDirectory = (): string => join(cacheDirectory(), "bed", "run");

export interface Prepared {
  /** Root file system of every host. */
  host: string;
  /** Root file system of the container base image, as a tar archive. */
  base: string;
  /** Storage of the registry that every bed begins with. */
  registry: string;
}

/** The mirror this machine itself gets Debian's packages from. Throws when it has none. */
async function ownMirror(): Promise<string> {
  const said = await must("apt-get", ["indextargets", "--format", "$(SUITE) $(REPO_URI)", "Created-By: Packages"]);
  const found = said.split("\n").find((line) => line !== "" && !line.includes("security"));
  const uri = found?.split(" ")[1]?.replace(/\/$/, "");
  if (uri === undefined)
    throw new Error("apt-get names no mirror of Debian: run apt-get update, or set GPUCTL_TEST_DEBIAN_MIRROR");
  return uri;
}

/** Prepares when nobody has; minutes the first time, milliseconds after that. Needs root. */
export async function prepared(): Promise<Prepared> {
  const mirror = process.env["GPUCTL_TEST_DEBIAN_MIRROR"] || (await ownMirror());
  const folder = (await must(script, [cacheDirectory(), mirror], { timeoutMs: 1_500_000 })).trim();
  return { host: join(folder, "host"), base: join(folder, "base.tar"), registry: join(folder, "registry") };
}
