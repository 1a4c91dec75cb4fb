import type { ValidationReport } from "../../app/config-validate.js";
import { BaseCommand } from "../../base-command.js";

export default class ConfigValidate extends BaseCommand<typeof ConfigValidate> {
  static override summary = "Check gpuctl.yaml and report every problem at once.";
  static override description =
    "Checks the project file, the user file and the GPUCTL_* variables: syntax, unknown keys, wrong values, and what does not fit together. Each problem comes with file:line:column.";
  static override examples = [
    "<%= config.bin %> config validate",
    "<%= config.bin %> config validate --config deploy/gpuctl.yaml --json",
  ];

  async execute(): Promise<ValidationReport> {
    const [{ validateConfig }, { configFiles }] = await Promise.all([
      import("../../app/config-validate.js"),
      import("../../wiring.js"),
    ]);
    return validateConfig({
      files: await configFiles(this.io.cwd),
      configPath: this.flags.config,
      environment: this.flags.environment,
      env: this.io.env,
      cwd: this.io.cwd,
    });
  }

  override render({ files, services, environments, warnings }: ValidationReport): string {
    const places = environments.map(({ name, target }) => `${name} (${target})`).join(", ");
    const summary = `${files.join(" and ")} ${files.length === 1 ? "is" : "are"} valid: ${services.join(", ")} in ${places}.`;
    return warnings === "" ? summary : `${warnings}\n\n${summary}`;
  }
}
