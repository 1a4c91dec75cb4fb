import * as hcloud from "@pulumi/hcloud";
import * as pulumi from "@pulumi/pulumi";
import { labels, resourceName, type StackId } from "../lib/names.js";

export interface ModelVolumeArgs {
  id: StackId;
  node: string;
  location: string;
  sizeGB: number;
  protect: boolean;
}

/**
 * Disk of models beside a cloud server, which outlives it. Not for dedicated servers: volumes attach to cloud servers only.
 * Protected twice: against `pulumi destroy`, and at the API against everybody else.
 */
export class ModelVolume extends pulumi.ComponentResource {
  readonly volumeId: pulumi.Output<number>;
  /** Path of the disk on its server. */
  readonly device: pulumi.Output<string>;

  constructor(name: string, { id, node, location, sizeGB, protect }: ModelVolumeArgs, options: pulumi.ComponentResourceOptions) {
    super("gpuctl:ModelVolume", name, {}, options);
    const volume = new hcloud.Volume(
      name,
      {
        name: resourceName(id, node, "models"),
        size: sizeGB,
        location,
        format: "ext4",
        deleteProtection: protect,
        labels: labels(id, node),
      },
      { parent: this, protect, deleteBeforeReplace: true },
    );
    this.volumeId = volume.id.apply(Number);
    this.device = volume.linuxDevice;
    this.registerOutputs({ volumeId: this.volumeId, device: this.device });
  }

  /** Attaches it; the attachment goes with the server, the volume stays. */
  attachTo(name: string, serverId: pulumi.Output<number>, options: pulumi.CustomResourceOptions): hcloud.VolumeAttachment {
    const args = { volumeId: this.volumeId, serverId, automount: false };
    return new hcloud.VolumeAttachment(name, args, { ...options, deleteBeforeReplace: true });
  }
}
