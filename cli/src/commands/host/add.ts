import { createInterface } from "node:readline/promises";
import * as Args from "@oclif/core/args";
import * as Flags from "@oclif/core/flags";
import type { AddResult } from "../../app/host-add.js";
import { addedText } from "../../app/render/host-text.js";
import { BaseCommand } from "../../base-command.js";

export default class HostAdd extends BaseCommand<typeof HostAdd> {
  static override summary = "Add a host to an environment in gpuctl.yaml, once its host key is trusted.";
  static override description = `The fingerprint of its host key is shown and has to be confirmed, unless known_hosts has the key; without a terminal
--fingerprint says which key is the right one. Comments and everything else in gpuctl.yaml stay as they are.`;
  static override examples = [
    "<%= config.bin %> host add gpu-1 --host 203.0.113.7 -e production",
    "<%= config.bin %> host add gpu-1 --host 203.0.113.7 --user deploy --fingerprint SHA256:abc…",
  ];
  static override args = { name: Args.string({ description: "Name of the node.", required: true }) };
  static override flags = {
    host: Flags.string({ description: "Name or address that SSH reaches it by.", required: true, helpValue: "ADDRESS" }),
    user: Flags.string({ description: "Account to log in as (default root).", helpValue: "NAME" }),
    port: Flags.integer({ description: "Port of SSH (default 22).", min: 1, max: 65_535, helpValue: "PORT" }),
    "identity-file": Flags.string({ description: "Private key to log in with (default: agent and ~/.ssh).", helpValue: "FILE" }),
    fingerprint: Flags.string({ description: "The host key to trust, as ssh-keygen -l prints it.", helpValue: "SHA256:…" }),
  };

  async execute(): Promise<AddResult> {
    const [{ addHost }, { createAddTools }] = await Promise.all([
      import("../../app/host-add.js"),
      import("../../wiring/host.js"),
    ]);
    const config = await this.loadConfig();
    const tools = await createAddTools(config, this.toolsRequest());
    const { host, user, port, fingerprint, "identity-file": identityFile } = this.flags;
    const ask = this.io.stdinIsTTY ? (question: string) => this.#ask(question) : null;
    return addHost({ ...tools, config, ask }, { name: this.args.name, host, user, port, identityFile }, fingerprint);
  }

  override render(result: AddResult): string {
    return addedText(result);
  }

  async #ask(question: string): Promise<boolean> {
    const terminal = createInterface({ input: this.io.stdin, output: this.io.stderr });
    try {
      return (await terminal.question(question, { signal: this.signal })).trim().toLowerCase() === "yes";
    } finally {
      terminal.close();
    }
  }
}
