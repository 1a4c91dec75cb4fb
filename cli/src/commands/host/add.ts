import { createInterface } from "node:readline/promises";
import * as Args from "@oclif/core/args";
import * as Flags from "@oclif/core/flags";
import type { AddContext, AddResult } from "../../app/host-add.js";
import type { AddedToStack } from "../../app/host-add-to-stack.js";
import { addedText, addedToStackText } from "../../app/render/host-text.js";
import { BaseCommand } from "../../base-command.js";
import { acceptNewFlag } from "../../lifecycle-flags.js";
import type { NewNode } from "../../ports/host-preparer.js";

export default class HostAdd extends BaseCommand<typeof HostAdd> {
  static override summary = "Add a host to an environment in gpuctl.yaml, once its host key is trusted.";
  static override description = `The fingerprint of its host key is shown and has to be confirmed, unless known_hosts has the key; without a terminal
--fingerprint says which key is the right one. Comments and everything else in gpuctl.yaml stay as they are. With --stack the host
becomes an adopted node in the configuration of a stack of Pulumi, with its key, and gpuctl.yaml is left alone.`;
  static override examples = [
    "<%= config.bin %> host add gpu-1 --host 203.0.113.7 -e production",
    "<%= config.bin %> host add gpu-1 --host 203.0.113.7 --user deploy --fingerprint SHA256:abc…",
    "<%= config.bin %> host add gpu-1 --host 203.0.113.7 --stack prod",
  ];
  static override args = { name: Args.string({ description: "Name of the node.", required: true }) };
  static override flags = {
    ...acceptNewFlag,
    host: Flags.string({ description: "Name or address that SSH reaches it by.", required: true, helpValue: "ADDRESS" }),
    user: Flags.string({ description: "Account to log in as (default root).", helpValue: "NAME" }),
    port: Flags.integer({ description: "Port of SSH (default 22).", min: 1, max: 65_535, helpValue: "PORT" }),
    "identity-file": Flags.string({ description: "Private key to log in with (default: agent and ~/.ssh).", helpValue: "FILE" }),
    fingerprint: Flags.string({ description: "The host key to trust, as ssh-keygen -l prints it.", helpValue: "SHA256:…" }),
    stack: Flags.string({ description: "Stack of Pulumi that adopts it, in place of gpuctl.yaml.", helpValue: "NAME" }),
  };

  async execute(): Promise<AddResult | AddedToStack> {
    const { host, user, port, fingerprint, stack, "identity-file": identityFile } = this.flags;
    const node = { name: this.args.name, host, user, port, identityFile };
    const ask = this.io.stdinIsTTY ? (question: string) => this.#ask(question) : null;
    return stack === undefined ? this.#toFile(node, fingerprint, ask) : this.#toStack(node, fingerprint, stack, ask);
  }

  async #toFile(node: NewNode, fingerprint: string | undefined, ask: AddContext["ask"]): Promise<AddResult> {
    const [{ addHost }, { createAddTools }] = await Promise.all([
      import("../../app/host-add.js"),
      import("../../wiring/host.js"),
    ]);
    const config = await this.loadConfig();
    const tools = await createAddTools(config, this.toolsRequest());
    return addHost({ ...tools, config, ask }, node, fingerprint);
  }

  async #toStack(node: NewNode, fingerprint: string | undefined, stack: string, ask: AddContext["ask"]): Promise<AddedToStack> {
    const [{ addToStack }, { infraTarget }, { createInfra }, { createHostKeys }] = await Promise.all([
      import("../../app/host-add-to-stack.js"),
      import("../../app/infra-stack.js"),
      import("../../wiring/infra.js"),
      import("../../wiring/host.js"),
    ]);
    const target = await infraTarget(await this.configRequest());
    const { pulumi } = await createInfra(target, this.toolsRequest(), this.io.cwd);
    const keys = await createHostKeys(target.projectFile ?? `${this.io.cwd}/gpuctl.yaml`, {}, this.toolsRequest());
    return addToStack({ keys, pulumi, ask, signal: this.signal }, node, stack, fingerprint);
  }

  override render(result: AddResult | AddedToStack): string {
    return "stack" in result ? addedToStackText(result) : addedText(result);
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
