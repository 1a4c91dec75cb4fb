import * as command from "@pulumi/command";
import * as pulumi from "@pulumi/pulumi";
import { adoptedPrivateAddress, type PreparedHost } from "../lib/inventory.js";
import type { HostValues } from "../../cli/src/domain/host/values.js";
import { rememberedBox } from "../lib/one-box.js";
import { remoteProgram } from "../lib/remote-program.js";
import type { AdoptedNode } from "../lib/stack-schema.js";
import { vswitchUnit } from "../lib/vswitch.js";
import { hostScript, remoteScript } from "../scripts.js";
import { ownerOf, prepareHost } from "./host-preparation.js";
import { runOnHost, runWhenDeleted, type Reach } from "./remote-command.js";

export interface AdoptedHostArgs {
  name: string;
  node: AdoptedNode;
  values: HostValues;
  privateKey: pulumi.Output<string> | undefined;
  /** The private network, for a host that joins it over a vSwitch. */
  vswitch: { subnet: string; range: string; ready: pulumi.Resource | undefined } | null;
}

/**
 * A box that exists: looked at, prepared, verified. Its host key is required, and deleting it takes away what was made there and
 * never the box.
 */
export class AdoptedHost extends pulumi.ComponentResource {
  readonly prepared: pulumi.Output<PreparedHost>;
  readonly reach: Reach;
  /** Whoever needs the prepared host waits for this. */
  readonly ready: pulumi.Resource;

  constructor(name: string, args: AdoptedHostArgs, options: pulumi.ComponentResourceOptions) {
    super("gpuctl:AdoptedHost", name, {}, options);
    const { node, values } = args;
    this.reach = { host: node.host, port: node.port, user: node.user, hostKey: node.hostKey, privateKey: args.privateKey };
    const preflight = runOnHost(
      `${name}-preflight`,
      {
        reach: this.reach,
        program: remoteProgram(remoteScript("preflight"), {
          GPUCTL_GPUS: String(node.gpu?.count ?? 0),
          GPUCTL_PORTS: values.servicePorts.join(" "),
        }),
        triggers: [node.host],
      },
      { parent: this },
    );
    const box = this.rememberBox(name, node, preflight);
    // What takes away is made before everything that it takes away, so that its deletion comes last; and after the first look, so that
    // it never knows an address that did not answer with this key.
    const vlanRemoval = this.leaveVswitch(name, args, box);
    const removal = runWhenDeleted(
      `${name}-removal`,
      { reach: this.reach, program: removalProgram(name) },
      { parent: this, dependsOn: [box, ...vlanRemoval] },
    );
    const looked = { parent: this, dependsOn: [preflight, removal, ...this.joinVswitch(name, args, [preflight, removal])] };
    const request = { reach: this.reach, values, restart: node.reboot, triggers: [node.host] };
    const verified = prepareHost(name, request, looked);
    const address = { name: args.name, host: node.host, hostKey: node.hostKey, privateAddress: adoptedPrivateAddress(node) };
    this.ready = verified;
    this.prepared = verified.stdout.apply(() => address);
    this.registerOutputs({ prepared: this.prepared });
  }

  /**
   * A node stays one box: what was made on the first one would stay there for ever, and what takes it away would run on the second one.
   * On this machine, of what the state says; after the first look, so that no slip of the pen is remembered.
   */
  private rememberBox(name: string, { host, port, hostKey }: AdoptedNode, preflight: pulumi.Resource): pulumi.Resource {
    const create = rememberedBox(name, { host, port, hostKey });
    return new command.local.Command(`${name}-box`, { create }, { parent: this, dependsOn: [preflight] });
  }

  private leaveVswitch(name: string, { node, vswitch }: AdoptedHostArgs, box: pulumi.Resource): pulumi.Resource[] {
    if (node.robot?.vlan == null || vswitch === null) return [];
    const program = remoteProgram(remoteScript("vswitch-down"), { GPUCTL_OWNER: ownerOf(name) });
    const options = { parent: this, dependsOn: [box, ...(vswitch.ready === undefined ? [] : [vswitch.ready])] };
    return [runWhenDeleted(`${name}-vswitch-removal`, { reach: this.reach, program }, options)];
  }

  private joinVswitch(name: string, { node, vswitch }: AdoptedHostArgs, dependsOn: pulumi.Resource[]): pulumi.Resource[] {
    const vlan = node.robot?.vlan;
    if (vlan == null || vswitch === null) return [];
    const unit = vswitchUnit({ ...vlan, subnet: vswitch.subnet, range: vswitch.range });
    const file = { path: "/etc/systemd/system/gpuctl-vswitch.service", mode: "0644" as const, content: unit };
    const program = remoteProgram(remoteScript("vswitch-up"), { GPUCTL_INTERFACE: vlan.interface }, [file]);
    const options = { parent: this, dependsOn };
    return [runOnHost(`${name}-vswitch`, { reach: this.reach, program, triggers: [node.host] }, options)];
  }
}

/** The script comes along: the one on the host may be gone, or older than `--remove`. */
function removalProgram(name: string): string {
  const script = { path: "/run/gpuctl-removal/prepare-host.sh", mode: "0755" as const, content: hostScript().text };
  return remoteProgram(remoteScript("remove-host"), { GPUCTL_OWNER: ownerOf(name) }, [script]);
}
