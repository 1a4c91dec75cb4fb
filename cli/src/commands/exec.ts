import * as Args from "@oclif/core/args";
import * as Flags from "@oclif/core/flags";
import type { ExecLine, ExecResult } from "../app/exec.js";
import { BaseCommand } from "../base-command.js";
import { UsageError } from "../domain/errors.js";

type Result = ExecResult & { lines: readonly ExecLine[] };

export default class Exec extends BaseCommand<typeof Exec> {
  static override summary = "Run a command inside a service's container, on every host that runs it.";
  static override description = `What stands after -- is run as it is, without a shell; its output arrives as it comes, with the node before each
line when there are several. It has no input and no terminal. Ctrl-C ends it on the hosts as well. The exit status is the command's; on several
hosts that of the first that failed.`;
  static override examples = [
    "<%= config.bin %> exec embedder -- python -V",
    "<%= config.bin %> exec reranker --hosts gpu-1,gpu-2 -- nvidia-smi",
    "<%= config.bin %> exec embedder --release r12 -- sh -c 'ls -l /models'",
  ];
  static override usage = "exec SERVICE [--hosts NAMES] [--release rN] -- COMMAND...";
  static override args = { service: Args.string({ description: "Service whose container it is.", required: true }) };
  static override flags = {
    hosts: Flags.string({
      description: "Only on these nodes, by commas (default: all that run the service).",
      helpValue: "NAMES",
    }),
    release: Flags.string({
      description: "Instance of this release, while it still runs (default: the one in service).",
      helpValue: "rN",
    }),
  };

  #command: readonly string[] = [];

  /** What stands after `--` is another program's command line. */
  protected override async init(): Promise<void> {
    const end = this.argv.indexOf("--");
    if (end !== -1) this.#command = this.argv.splice(end).slice(1);
    await super.init();
  }

  async execute(): Promise<Result> {
    const [program, ...rest] = this.#command;
    if (program === undefined)
      throw new UsageError("there is no command to run", {
        because: "what shall be run stands after --",
        nextSteps: [`gpuctl exec ${this.args.service} -- python -V`],
      });
    const { exec } = await import("../app/exec.js");
    const { hosts, release } = this.flags;
    const lines: ExecLine[] = [];
    const command = [program, ...rest] as const;
    const request = { service: this.args.service, hosts: hosts?.split(","), release, command };
    const result = await exec(await this.context(), request, (line, several) => {
      if (this.json) lines.push(line);
      else this.#print(line, several);
    });
    return { ...result, lines };
  }

  #print({ node, stream, text }: ExecLine, several: boolean): void {
    const shown = several ? `${node} ${text}` : text;
    if (stream === "stdout") this.stream(shown, null);
    else this.io.stderr.write(`${shown}\n`);
  }

  override render(): string {
    return "";
  }

  protected override exitStatus({ code }: Result): number {
    return code;
  }
}
