/** The Pulumi program: reads the stack's configuration, refuses what cannot work, makes the rest. */
import * as pulumi from "@pulumi/pulumi";
import { checkStack, hcloudNodes, StackInvalid } from "./lib/stack-config.js";
import { rawConfig } from "./lib/raw-config.js";
import { mountPoint } from "./lib/volume-mount.js";
import { priceList } from "./prices.js";
import { hostScript } from "./scripts.js";
import { makeStack } from "./stack.js";

const own = new pulumi.Config("gpuctl");
const provider = new pulumi.Config("hcloud");
/** Keys that the checked configuration does not have. */
const secretKeys = ["sshPrivateKey", "k3sToken", "kubeconfig"];
const secrets = {
  privateKey: own.getSecret("sshPrivateKey"),
  k3sToken: own.getSecret("k3sToken"),
  kubeconfig: own.getSecret("kubeconfig"),
};

function check() {
  try {
    const given = { k3sToken: secrets.k3sToken !== undefined, hcloudToken: hasToken() };
    return checkStack(rawConfig(pulumi.runtime.allConfig(), "gpuctl", secretKeys), given, priceList, hostScript());
  } catch (error) {
    // Without a stack trace: it is the configuration that has to change, not the program.
    if (error instanceof StackInvalid) throw new pulumi.RunError(error.message);
    throw error;
  }
}

function hasToken(): boolean {
  return provider.get("token") !== undefined || (process.env["HCLOUD_TOKEN"] ?? "") !== "";
}

const checked = check();

/** What `gpuctl deploy` goes on from; the whole document, without secrets. */
export const inventory = makeStack(pulumi.getStack(), checked, secrets, {
  token: provider.getSecret("token"),
  endpoint: provider.get("endpoint"),
  pollInterval: provider.get("pollInterval"),
});

/** `dataDirectory` of the environment in gpuctl.yaml that puts its data on the stack's volumes; missing in a stack without any. */
export const dataDirectory = hcloudNodes(checked.config).some(([, { volume }]) => volume !== null) ? mountPoint : undefined;
