import { sha256 } from "../../../domain/canonical.js";
import { modelVolume } from "../../../domain/compose/names.js";
import type { ModelRef } from "../../../domain/release.js";
import type { Probes } from "../../../ports.js";
import type { Manifest } from "../../models/manifest.js";
import type { HostCommands } from "./host-commands.js";

/** Arguments: VOLUME. Prints the manifest that lies in a volume, or nothing. */
const reading = `m=$(docker volume inspect --format '{{.Mountpoint}}' "$1" 2>/dev/null) || exit 0
if [ -f "$m/manifest.json" ]; then exec cat "$m/manifest.json"; fi`;

/** Probes of the models on one host, for whoever has no copy of the model: read once, and believed by the hash in the release. */
export class ModelProbes {
  readonly #commands: HostCommands;
  readonly #known = new Map<string, Probes>();

  constructor(commands: HostCommands) {
    this.#commands = commands;
  }

  /** Null when they are not there, or are not those that the release names. */
  async of(ref: ModelRef): Promise<Probes | null> {
    const known = this.#known.get(ref.manifest);
    if (known !== undefined) return known;
    const failure = `the probes of ${ref.name} could not be read`;
    const text = await this.#commands.look({ text: reading, args: [modelVolume(ref)], failure });
    if (sha256(text) !== ref.manifest) return null;
    const { probes } = JSON.parse(text) as Manifest;
    this.#known.set(ref.manifest, probes);
    return probes;
  }
}
