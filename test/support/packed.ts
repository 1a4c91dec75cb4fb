/** gpuctl as somebody gets it who has no clone: its tarball, installed from the package registry's dependencies. */
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { repository } from "./sandbox.js";

export interface Packed {
  /** Of `npm install --global`. */
  prefix: string;
  /** Folder of the package itself, with everything that it needs below it. */
  program: string;
  seconds: number;
}

/** @param scratch  an empty folder */
export function installPacked(scratch: string): Packed {
  const prefix = join(scratch, "prefix");
  const stdio = ["ignore", "ignore", "inherit"] as const;
  execFileSync("npm", ["pack", "--silent", "--pack-destination", scratch], { cwd: repository, stdio: [...stdio] });
  const tarball = readdirSync(scratch).find((name) => name.endsWith(".tgz")) ?? "";
  const quiet = ["--no-audit", "--no-fund", "--loglevel=error"];
  const begun = performance.now();
  execFileSync("npm", ["install", "--global", "--prefix", prefix, ...quiet, join(scratch, tarball)], {
    cwd: scratch,
    stdio: [...stdio],
  });
  const seconds = (performance.now() - begun) / 1000;
  return { prefix, program: join(prefix, "lib/node_modules/gpuctl"), seconds };
}
