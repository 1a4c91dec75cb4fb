import * as Flags from "@oclif/core/flags";
import type { InitResult } from "../app/init.js";
import { BaseCommand } from "../base-command.js";
import { targetKinds, type TargetKind } from "../domain/names.js";

export default class Init extends BaseCommand<typeof Init> {
  static override summary = "Write a commented gpuctl.yaml. Never overwrites one.";
  static override examples = [
    "<%= config.bin %> init",
    "<%= config.bin %> init --target compose --project shop-search",
    "<%= config.bin %> init --path deploy --first-port 9001",
  ];
  static override flags = {
    target: Flags.option({
      options: targetKinds,
      default: "process" as TargetKind,
      description: "Where the services will run.",
    })(),
    project: Flags.string({ description: "Name of the project (default: made from the folder's name).", helpValue: "NAME" }),
    path: Flags.string({ description: "Folder to write to (default: this one).", helpValue: "FOLDER" }),
    "first-port": Flags.integer({
      description: "Port of the embedder; the reranker and the index get the next two.",
      default: 8001,
      min: 1,
      max: 65_533,
      helpValue: "PORT",
    }),
  };

  async execute(): Promise<InitResult> {
    const [{ init }, { configFiles }] = await Promise.all([import("../app/init.js"), import("../wiring.js")]);
    return init({
      files: await configFiles(this.io.cwd),
      cwd: this.io.cwd,
      path: this.flags.path,
      target: this.flags.target,
      project: this.flags.project,
      firstPort: this.flags["first-port"],
      packageRoot: this.config.root,
    });
  }

  override render(result: InitResult): string {
    const next = result.nextSteps.map((step) => `  ${step}`).join("\n");
    return `Wrote ${result.file}: project ${result.project}, environment ${result.environment} (${result.target}).\nNext:\n${next}`;
  }
}
