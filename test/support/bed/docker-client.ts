/** Docker's own command on this machine, talking to the engine of a host of a bed: what a person has who set DOCKER_HOST. */
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { BedHost } from "./host.js";
import { prepared } from "./prepared.js";

export interface DockerClient {
  /** Of commands that use it; nothing of this machine's own Docker is read or written. */
  env: Readonly<Record<string, string>>;
}

/** Installs the bed's docker and buildx below a folder. */
export async function dockerClient(folder: string, host: BedHost): Promise<DockerClient> {
  const { host: parts } = await prepared();
  const [programs, home] = [join(folder, "bin"), join(folder, "home")];
  mkdirSync(programs, { recursive: true });
  mkdirSync(join(home, ".docker"), { recursive: true });
  symlinkSync(join(parts, "usr/bin/docker"), join(programs, "docker"));
  const plugins = { cliPluginsExtraDirs: [join(parts, "usr/libexec/docker/cli-plugins")] };
  writeFileSync(join(home, ".docker/config.json"), JSON.stringify(plugins));
  return {
    env: {
      PATH: `${programs}:/usr/bin:/bin`,
      HOME: home,
      DOCKER_HOST: `unix://${host.root}/run/docker.sock`,
      XDG_CACHE_HOME: join(folder, "cache"),
      NO_COLOR: "1",
    },
  };
}
