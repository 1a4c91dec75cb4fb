import * as command from "@pulumi/command";
import * as hcloud from "@pulumi/hcloud";
import * as pulumi from "@pulumi/pulumi";
import { cloudInit } from "../lib/cloud-init.js";
import type { HostValues } from "../../cli/src/domain/host/values.js";
import type { PreparedHost } from "../lib/inventory.js";
import { labels, resourceName, type StackId } from "../lib/names.js";
import { makeOneTimeKey, readHostKey, readOneTimeKey, type OneTimeKey } from "../lib/one-time-key.js";
import { remoteProgram } from "../lib/remote-program.js";
import type { HcloudNode } from "../lib/stack-schema.js";
import { mountUnit, mountUnitPath } from "../lib/volume-mount.js";
import { hostScript, remoteScript } from "../scripts.js";
import { prepareHost } from "./host-preparation.js";
import { ModelVolume } from "./model-volume.js";
import type { PrivateNetwork } from "./private-network.js";
import { runOnHost, type Reach } from "./remote-command.js";
import type { ServiceFirewall } from "./service-firewall.js";

export interface HcloudHostArgs {
  id: StackId;
  name: string;
  node: HcloudNode;
  network: PrivateNetwork;
  firewall: ServiceFirewall;
  privateAddress: string;
  /** So that the provider sets no password for root; not what anybody logs in with. */
  sshKey: hcloud.SshKey;
  operators: readonly string[];
  values: HostValues;
  privateKey: pulumi.Output<string> | undefined;
  protect: boolean;
}

/** A server of Hetzner Cloud, of any type: none has a GPU. It keeps its address and its volume when it is replaced. */
export class HcloudHost extends pulumi.ComponentResource {
  readonly prepared: pulumi.Output<PreparedHost>;
  readonly reach: Reach;
  /** Whoever needs the prepared host waits for this. */
  readonly ready: pulumi.Resource;

  constructor(name: string, args: HcloudHostArgs, options: pulumi.ComponentResourceOptions) {
    super("gpuctl:HcloudHost", name, {}, options);
    const firstKey = this.makeFirstKey(name);
    const address = this.makeAddress(name, args);
    const server = this.makeServer(name, args, firstKey, address);
    const attached = new hcloud.ServerNetwork(
      `${name}-network`,
      { serverId: server.id.apply(Number), subnetId: args.network.cloud.id, ip: args.privateAddress },
      // The subnet cannot go while a server is in it; saying so decides the order of destruction.
      { parent: this, deleteBeforeReplace: true, dependsOn: [args.network.cloud] },
    );
    const { reach, hostKey, known } = this.meet(name, args, { firstKey, server, address, attached });
    this.reach = reach;
    const entered = [known, this.letIn(name, args, server, known)];
    const volume = this.mountVolume(name, args, server, entered);
    const verified = prepareHost(
      name,
      { reach, values: args.values, restart: "never", triggers: [server.id] },
      { parent: this, dependsOn: [...entered, ...volume] },
    );
    this.ready = verified;
    // Known only once the host is verified: an inventory never names one that is not.
    this.prepared = pulumi
      .all([address.ipAddress, hostKey, verified.stdout])
      .apply(([host, key]) => ({ name: args.name, host, hostKey: key, privateAddress: args.privateAddress }));
    this.registerOutputs({ prepared: this.prepared });
  }

  /** On the machine that runs Pulumi, kept as a secret of the state; for the first connection only. */
  private makeFirstKey(name: string): pulumi.Output<OneTimeKey> {
    const made = new command.local.Command(
      `${name}-first-key`,
      { create: makeOneTimeKey, logging: "none", addPreviousOutputInEnv: false },
      // Another key would not reach the server: its user data stays as it was made.
      { parent: this, additionalSecretOutputs: ["stdout"], ignoreChanges: ["create", "logging", "addPreviousOutputInEnv"] },
    );
    return pulumi.secret(made.stdout).apply(readOneTimeKey);
  }

  private makeAddress(name: string, { id, name: node, node: { location }, protect }: HcloudHostArgs): hcloud.PrimaryIp {
    return new hcloud.PrimaryIp(
      `${name}-ip`,
      {
        name: resourceName(id, node),
        type: "ipv4",
        location,
        assigneeType: "server",
        autoDelete: false,
        deleteProtection: protect,
        labels: labels(id, node),
      },
      { parent: this, protect, deleteBeforeReplace: true },
    );
  }

  private makeServer(
    name: string,
    { id, name: nodeName, node, network, firewall, sshKey, operators, values }: HcloudHostArgs,
    firstKey: pulumi.Output<OneTimeKey>,
    address: hcloud.PrimaryIp,
  ): hcloud.Server {
    const userData = firstKey.apply((key) => cloudInit({ script: hostScript(), values, firstKey: key, operators }));
    return new hcloud.Server(
      name,
      {
        name: resourceName(id, nodeName),
        serverType: node.serverType,
        location: node.location,
        image: node.image,
        sshKeys: [sshKey.id],
        userData,
        firewallIds: [firewall.firewallId],
        publicNets: [{ ipv4Enabled: true, ipv4: address.id.apply(Number), ipv6Enabled: false }],
        shutdownBeforeDeletion: true,
        labels: labels(id, nodeName),
      },
      {
        parent: this,
        // Each of these would replace the server; the script is brought up to date by SSH instead.
        ignoreChanges: ["userData", "sshKeys", "image"],
        // Its name and its address are taken until it is gone.
        deleteBeforeReplace: true,
        dependsOn: [network.cloud],
      },
    );
  }

  /** From the key of the user data to the one that the host made itself, and then without the first. */
  private meet(
    name: string,
    { privateKey }: HcloudHostArgs,
    {
      firstKey,
      server,
      address,
      attached,
    }: {
      firstKey: pulumi.Output<OneTimeKey>;
      server: hcloud.Server;
      address: hcloud.PrimaryIp;
      attached: pulumi.Resource;
    },
  ): { reach: Reach; hostKey: pulumi.Output<string>; known: pulumi.Resource } {
    const publicKey = pulumi.unsecret(firstKey.apply((key) => key.publicKey));
    const strange: Reach = { host: address.ipAddress, port: 22, user: "root", hostKey: publicKey, privateKey };
    const triggers = [server.id];
    const contact = runOnHost(
      `${name}-first-contact`,
      { reach: strange, program: remoteProgram(remoteScript("first-contact"), {}), restarting: true, triggers },
      // Once, for each server: afterwards the key that it checks is gone from the host.
      { parent: this, dependsOn: [attached], ignoreChanges: ["connection", "create", "update", "stdin"] },
    );
    const hostKey = contact.stdout.apply(readHostKey);
    const reach: Reach = { ...strange, hostKey };
    const program = publicKey.apply((key) => remoteProgram(remoteScript("forget-first-key"), { GPUCTL_FIRST_KEY: key }));
    const known = runOnHost(`${name}-forget-first-key`, { reach, program, triggers }, { parent: this, dependsOn: [contact] });
    return { reach, hostKey, known };
  }

  /** Keys of operators, which the user data brings to a new server only: whoever leaves the list leaves the server too. */
  private letIn(name: string, { operators }: HcloudHostArgs, server: hcloud.Server, known: pulumi.Resource): pulumi.Resource {
    const program = remoteProgram(remoteScript("operators"), { GPUCTL_OPERATORS: operators.join("\n") });
    const options = { parent: this, dependsOn: [known] };
    return runOnHost(`${name}-operators`, { reach: this.reach, program, triggers: [server.id] }, options);
  }

  private mountVolume(
    name: string,
    { id, name: nodeName, node, protect }: HcloudHostArgs,
    server: hcloud.Server,
    entered: pulumi.Resource[],
  ): pulumi.Resource[] {
    if (node.volume === null) return [];
    const args = { id, node: nodeName, location: node.location, sizeGB: node.volume.sizeGB, protect };
    const volume = new ModelVolume(`${name}-models`, args, { parent: this });
    const attached = volume.attachTo(`${name}-models-attachment`, server.id.apply(Number), { parent: this });
    const program = volume.device.apply((device) =>
      remoteProgram(remoteScript("mount-volume"), { GPUCTL_DEVICE: device }, [
        { path: mountUnitPath, mode: "0644", content: mountUnit(device) },
      ]),
    );
    const options = { parent: this, dependsOn: [...entered, attached] };
    // Once more for a disk that has grown.
    const triggers = [server.id, String(node.volume.sizeGB)];
    return [runOnHost(`${name}-mount`, { reach: this.reach, program, triggers }, options)];
  }
}
