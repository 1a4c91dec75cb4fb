import type { HealthReport } from "../app/health.js";
import { healthText } from "../app/render/status-text.js";
import { BaseCommand } from "../base-command.js";
import type { ExitCodeName } from "../domain/errors.js";

export default class Health extends BaseCommand<typeof Health> {
  static override summary = "Ask every service for its health over its public address.";
  static override examples = ["<%= config.bin %> health", "<%= config.bin %> health --json"];

  async execute(): Promise<HealthReport> {
    const { health } = await import("../app/health.js");
    return health(await this.context());
  }

  override render(result: HealthReport): string {
    return healthText(result);
  }

  override successExit(result: HealthReport): ExitCodeName {
    return result.healthy ? "ok" : "failed";
  }
}
