import * as command from "@pulumi/command";
import type * as pulumi from "@pulumi/pulumi";

/** How a host is reached. The provider accepts any host when `hostKey` is left out, so it cannot be. */
export interface Reach {
  host: pulumi.Input<string>;
  port: number;
  user: string;
  hostKey: pulumi.Input<string>;
  /** Of the operator; undefined for the keys of ssh-agent. */
  privateKey: pulumi.Output<string> | undefined;
}

export interface RemoteProgram {
  reach: Reach;
  /** Of `remoteProgram`; goes to `bash -s` on stdin. */
  program: pulumi.Input<string>;
  /** Whether it may be starting: a server with much memory takes more than ten minutes. */
  restarting?: boolean;
}

/** Attempts to connect, up to 5 s apart and 15 s long. A host that is there answers the first. */
const attempts = { usual: 5, restarting: 150 };

/** Runs a program on a host when it is new, when it changed, and when one of `triggers` did. */
export function runOnHost(
  name: string,
  { reach, program, restarting, triggers }: RemoteProgram & { triggers: pulumi.Input<string>[] },
  options: pulumi.CustomResourceOptions,
): command.remote.Command {
  const shell = shellOf(reach);
  return new command.remote.Command(
    name,
    { ...common(reach, restarting), create: shell, update: shell, stdin: program, triggers },
    options,
  );
}

/**
 * Runs a program on a host when this resource is deleted, and only then. A resource of its own: a command that is replaced runs
 * its deletion after its creation, so that a new version of a script would first prepare a host and then take that away.
 */
export function runWhenDeleted(
  name: string,
  { reach, program }: RemoteProgram,
  options: pulumi.CustomResourceOptions,
): command.remote.Command {
  return new command.remote.Command(name, { ...common(reach), delete: shellOf(reach), stdin: program }, options);
}

const shellOf = ({ user }: Reach): string => (user === "root" ? "bash -s" : "sudo -n bash -s");

function common({ host, port, user, hostKey, privateKey }: Reach, restarting = false) {
  const agentOrKey = privateKey === undefined ? {} : { privateKey };
  return {
    connection: {
      host,
      port,
      user,
      hostKey,
      dialErrorLimit: restarting ? attempts.restarting : attempts.usual,
      perDialTimeout: 15,
      ...agentOrKey,
    },
    // It would go into the environment, which sshd refuses.
    addPreviousOutputInEnv: false,
  };
}
