import type * as command from "@pulumi/command";
import * as pulumi from "@pulumi/pulumi";
import { givenValues, hostDirectory } from "../lib/cloud-init.js";
import { valuesText, type HostValues } from "../../cli/src/domain/host/values.js";
import { remoteProgram, sha256, type RemoteFile } from "../lib/remote-program.js";
import type { AdoptedNode } from "../lib/stack-schema.js";
import { hostScript, remoteScript } from "../scripts.js";
import { runOnHost, type Reach } from "./remote-command.js";

export interface PreparationArgs {
  reach: Reach;
  values: HostValues;
  restart: AdoptedNode["reboot"];
  /** Preparing again when one of these changes, beyond the script and the revision. */
  triggers: pulumi.Input<string>[];
}

/** What a box is to its stack: whoever takes away looks whether it still is that. */
export const ownerOf = (name: string): string => `${pulumi.getStack()}/${name}`;

/** The preparation script and its values, as files of a host. */
function preparationFiles(name: string, values: HostValues): RemoteFile[] {
  return [
    { path: `${hostDirectory}/prepare-host.sh`, mode: "0755", content: hostScript().text },
    { path: givenValues, mode: "0600", content: valuesText(values) },
    { path: `${hostDirectory}/owner`, mode: "0644", content: ownerOf(name) },
  ];
}

/**
 * Delivers the preparation script by SSH, runs it, and waits until the host says that it is prepared, also across a restart.
 * @returns what is there once the host is
 */
export function prepareHost(
  name: string,
  { reach, values, restart, triggers }: PreparationArgs,
  options: pulumi.CustomResourceOptions,
): command.remote.Command {
  const script = hostScript();
  const program = remoteProgram(remoteScript("prepare"), { GPUCTL_RESTART: restart }, preparationFiles(name, values));
  const again = [script.sha256, values.revision, sha256(program), ...triggers];
  const prepared = runOnHost(`${name}-prepare`, { reach, program, triggers: again }, options);
  const check = remoteProgram(remoteScript("verify"), { GPUCTL_SCRIPT: script.sha256 });
  return runOnHost(
    `${name}-verify`,
    { reach, program: check, restarting: true, triggers: again },
    { ...options, dependsOn: [prepared] },
  );
}
