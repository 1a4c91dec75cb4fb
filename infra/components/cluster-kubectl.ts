import * as pulumi from "@pulumi/pulumi";
import type { KubectlRequest } from "../lib/kubectl.js";
import type { ClusterConfig } from "../lib/stack-schema.js";

/** What `kubectl` on this machine is given; without a kubeconfig it takes its own. */
export type Kubeconfig = pulumi.Output<string> | undefined;

export const askedOf = ({ context }: ClusterConfig, kubeconfig: Kubeconfig, args: readonly string[]): KubectlRequest => ({
  context,
  args,
  ownConfig: kubeconfig !== undefined,
});

/** Inputs that every local command with `kubectl` has. */
export function kubectlInputs(kubeconfig: Kubeconfig) {
  const stdin = kubeconfig === undefined ? {} : { stdin: pulumi.secret(kubeconfig) };
  return { ...stdin, addPreviousOutputInEnv: false };
}
