import * as Flags from "@oclif/core/flags";
import { BaseCommand } from "../base-command.js";
import { hostsFlag, nodeChoice, serviceArg } from "../lifecycle-flags.js";
import type { LogLine } from "../ports.js";

/** Nodes are named where there are some. */
const logText = ({ node, instance, text }: LogLine): string => (node === undefined ? "" : `${node} `) + `${instance} ${text}`;

export default class Logs extends BaseCommand<typeof Logs> {
  static override summary = "Print the services' logs; with -f go on as they grow.";
  static override examples = [
    "<%= config.bin %> logs",
    "<%= config.bin %> logs embedder -f",
    "<%= config.bin %> logs index --lines 500",
    "<%= config.bin %> logs --hosts gpu-2",
  ];
  static override args = { service: serviceArg("Only this service.") };
  static override flags = {
    hosts: hostsFlag("Only of these hosts."),
    follow: Flags.boolean({ char: "f", description: "Go on until interrupted." }),
    lines: Flags.integer({
      char: "n",
      description: "Lines of each instance to begin with.",
      default: 50,
      min: 0,
      helpValue: "N",
    }),
  };

  #streaming = false;

  async execute(): Promise<{ lines: readonly LogLine[] }> {
    const { logs } = await import("../app/logs.js");
    const { follow, lines } = this.flags;
    this.#streaming = follow || !this.json;
    const kept: LogLine[] = [];
    let any = false;
    for await (const line of logs(await this.context(nodeChoice(this.flags)), { service: this.args.service, follow, lines })) {
      any = true;
      if (this.#streaming) this.stream(logText(line), line);
      else kept.push(line);
    }
    if (!any && lines > 0) this.warn("there are no logs yet; gpuctl status says what runs");
    return { lines: kept };
  }

  override render(): string {
    return "";
  }

  /** A log that ends is one document like any other; one that is followed is a JSON object a line. */
  protected override streams(): boolean {
    return this.#streaming;
  }
}
