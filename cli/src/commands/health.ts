import * as Flags from "@oclif/core/flags";
import type { HealthReport } from "../app/health.js";
import { changeLines, redrawn } from "../app/render/health-watch-text.js";
import { healthText } from "../app/render/status-text.js";
import type { HealthMoment } from "../app/watch-health.js";
import { BaseCommand } from "../base-command.js";
import { Interrupted, type ExitCodeName } from "../domain/errors.js";
import type { Milliseconds } from "../domain/units.js";
import { every } from "../lifecycle-flags.js";

export default class Health extends BaseCommand<typeof Health> {
  static override summary = "Ask every service for its health over its public address.";
  static override description =
    "With --watch it asks again and again until Ctrl-C: a table that is kept current on a terminal, else a line for each change. The exit status is that of the last look.";
  static override examples = [
    "<%= config.bin %> health",
    "<%= config.bin %> health --json",
    "<%= config.bin %> health --watch --every 5s",
  ];
  static override flags = {
    watch: Flags.boolean({ char: "w", description: "Go on until interrupted." }),
    every: Flags.string({
      // Without a default here: oclif would take it for given, and ask for --watch.
      description: "With --watch, time between two looks (2s).",
      helpValue: "2s",
      dependsOn: ["watch"],
    }),
  };

  #lines = 0;
  #watching = false;

  async execute(): Promise<HealthReport> {
    if (this.flags.watch) {
      this.#watching = true;
      return this.#watch(every(this.#every));
    }
    const { health } = await import("../app/health.js");
    return health(await this.context());
  }

  async #watch(pause: Milliseconds): Promise<HealthReport> {
    const { watchHealth } = await import("../app/watch-health.js");
    let last: HealthReport | null = null;
    for await (const moment of watchHealth(await this.context(), pause)) {
      last = moment.report;
      this.#show(moment);
    }
    if (last === null) throw new Interrupted("stopped before the first answer");
    return last;
  }

  #show(moment: HealthMoment): void {
    if (this.json || !this.io.stdoutIsTTY || this.io.env["TERM"] === "dumb") {
      const lines = changeLines(moment);
      for (const [position, service] of moment.changed.entries())
        this.stream(lines[position] ?? "", { at: moment.at, ...service });
      return;
    }
    const text = `${healthText(moment.report).trimEnd()}\n\n${moment.at}, again every ${this.#every}; Ctrl-C ends it`;
    this.stream(redrawn(text, this.#lines), null);
    this.#lines = text.split("\n").length;
  }

  override render(result: HealthReport): string {
    return this.flags.watch ? "" : healthText(result);
  }

  override successExit(result: HealthReport): ExitCodeName {
    return result.healthy ? "ok" : "failed";
  }

  protected override streams(): boolean {
    return this.json && this.#watching;
  }

  get #every(): string {
    return this.flags.every ?? "2s";
  }
}
