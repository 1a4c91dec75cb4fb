import * as Args from "@oclif/core/args";
import { BaseCommand } from "../base-command.js";

export default class Help extends BaseCommand<typeof Help> {
  static override summary = "Explain a command, or the exit codes.";
  static override examples = ["<%= config.bin %> help deploy", "<%= config.bin %> help exit-codes"];
  static override args = {
    command: Args.string({ description: "Command or topic to explain; none: all of gpuctl." }),
    second: Args.string({ description: "Second word of a command, as in `help config view`.", hidden: true }),
  };

  async execute(): Promise<{ topic: string; help: string }> {
    const words = [this.args.command, this.args.second].filter((word) => word !== undefined);
    const topic = words.join(" ");
    if (topic === "exit-codes") {
      const { exitCodePage, exitCodeTable } = await import("../app/exit-codes.js");
      return { topic, help: exitCodePage(), ...{ exitCodes: exitCodeTable() } };
    }
    if (topic === "") {
      const { readFile } = await import("node:fs/promises");
      return { topic, help: await readFile(`${this.config.root}/dist/help.txt`, "utf8") };
    }
    const { default: GpuctlHelp } = await import("../help.js");
    return { topic, help: await new GpuctlHelp(this.config).text(words) };
  }

  override render(result: { help: string }): string {
    return result.help;
  }
}
