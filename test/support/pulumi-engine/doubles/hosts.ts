/**
 * Every remote host at once, for the double of @pulumi/command: it knows the scripts of `infra/remote` by their text, checks
 * that what arrives is a program that bash can read, and answers as a host would on which all goes well. Nothing runs: what the
 * scripts do is tested on hosts of their own.
 */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { run } from "../../bed/shell.js";
import { repository } from "../../sandbox.js";
import type { RemoteAnswer, RemoteCommand } from "./command.js";

export interface Visit {
  host: string;
  /** Name of the script in `infra/remote`. */
  script: string;
  step: RemoteCommand["step"];
  /** The key that the host had to show. */
  hostKey: string;
  user: string;
  command: string;
  program: string;
}

const folder = join(repository, "infra/remote");

/** The scripts by name, in the pieces that a program has of them: some name a file's hash, which is put in for `__SCRIPT__`. */
const scripts = new Map(
  readdirSync(folder).map((file) => [
    basename(file, ".sh"),
    readFileSync(join(folder, file), "utf8").trimEnd().split("__SCRIPT__"),
  ]),
);

function scriptOf(program: string): string {
  const inIt = [...scripts].filter(([, pieces]) => pieces.every((piece) => program.includes(piece)));
  // One script may bring another along: the longer text is the one that runs.
  const [found] = inIt.sort(([, left], [, right]) => right.join("").length - left.join("").length)[0] ?? [];
  if (found === undefined) throw new Error(`no script of infra/remote: ${program.slice(0, 200)}`);
  return found;
}

/** The key that a host made itself: different for each, the same at every visit. */
export function hostKeyOf(host: string): string {
  const bytes = Buffer.from([
    0,
    0,
    0,
    11,
    ...Buffer.from("ssh-ed25519"),
    0,
    0,
    0,
    32,
    ...createHash("sha256").update(host).digest(),
  ]);
  return `ssh-ed25519 ${bytes.toString("base64")}`;
}

export class RemoteHosts {
  readonly visits: Visit[] = [];
  /** Scripts that end with an error, each as often as it stands here. */
  readonly failing: string[] = [];
  /** What a visit waits for, by script, so that a test can act while one runs. */
  readonly waiting = new Map<string, Promise<void>>();

  /** For `commandDouble`. */
  readonly answer = async ({ step, connection, command, stdin }: RemoteCommand): Promise<RemoteAnswer> => {
    const readable = await run("bash", ["-n"], { input: stdin });
    if (readable.code !== 0) return { code: 2, stderr: readable.stderr };
    const script = scriptOf(stdin);
    const { host, hostKey = "", user = "root" } = connection as { host: string; hostKey?: string; user?: string };
    this.visits.push({ host, script, step, hostKey, user, command, program: stdin });
    await this.waiting.get(script);
    const at = this.failing.indexOf(script);
    if (at !== -1) {
      this.failing.splice(at, 1);
      return { code: 1, stderr: `${script} was told to fail\n` };
    }
    return { stdout: `${script === "first-contact" ? hostKeyOf(host) : `${script} was here`}\n` };
  };

  /** `script` or `script host`, in the order of the visits, since the last time this was asked. */
  since(): string[] {
    return this.visits.splice(0).map(({ script, host }) => `${script} ${host}`);
  }
}
