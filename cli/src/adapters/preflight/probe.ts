/** One question of the preflight script. */
export interface Probe {
  /**
   * `user`: as who logged in. `root`: with sudo where that works. `docker`: as whoever may talk to the engine. The last two of four are
   * skipped when nobody may: `root-with-docker` asks about what only an engine makes.
   */
  runner: "user" | "root" | "docker" | "root-with-docker";
  /** Its own time limit. */
  seconds: number;
  /** POSIX sh that reads and changes nothing; `$1` is the data directory. */
  script: string;
}

export const user = (seconds: number, script: string): Probe => ({ runner: "user", seconds, script });
export const root = (seconds: number, script: string): Probe => ({ runner: "root", seconds, script });
export const docker = (seconds: number, script: string): Probe => ({ runner: "docker", seconds, script });
export const rootWithDocker = (seconds: number, script: string): Probe => ({ runner: "root-with-docker", seconds, script });
