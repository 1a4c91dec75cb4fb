import * as Flags from "@oclif/core/flags";
import type { DoctorReport } from "../app/doctor.js";
import { doctorReportText } from "../app/render/doctor-text.js";
import { BaseCommand } from "../base-command.js";
import { acceptNewFlag } from "../lifecycle-flags.js";
import type { EnvironmentConfig } from "../domain/config/resolved.js";
import { ConfigInvalid, GpuctlError, UsageError, type ExitCodeName } from "../domain/errors.js";

export default class Doctor extends BaseCommand<typeof Doctor> {
  static override summary = "Look at this machine and say what is missing, why, and what to type.";
  static override description = `Looks at Node, Python, CPU features, memory, disks, ports, GPU and driver, Docker, WSL2 and the model store.
For an environment with hosts it looks at each of them too, over SSH: access, clock, disks, Docker, driver, container
toolkit, GPUs, ports and who can reach them. That connection is the only use of a network, and nothing is changed; where
the image is on a host already, a container is started with the GPU and removed again.
--fix lists what can be mended without harm to what runs; only with --confirm it is done.
Exits with 5 when something would stop a deploy.`;
  static override examples = ["<%= config.bin %> doctor", "<%= config.bin %> doctor --json", "<%= config.bin %> doctor --fix"];

  static override flags = {
    ...acceptNewFlag,
    fix: Flags.boolean({ description: "List the repairs of hosts that are safe." }),
    confirm: Flags.boolean({ description: "Make them.", dependsOn: ["fix"] }),
  };

  async execute(): Promise<DoctorReport> {
    const [{ doctor }, { createDoctor }] = await Promise.all([import("../app/doctor.js"), import("../wiring/doctor.js")]);
    const project = await this.#project();
    const { host, forProject, close } = await createDoctor(this.toolsRequest());
    const { signal } = this;
    if (project instanceof GpuctlError || project === null) return doctor({ host, signal, project: null, broken: project });
    try {
      return await doctor({ host, signal, repair: this.flags.confirm, project: await forProject(project) });
    } finally {
      await close();
    }
  }

  override render(report: DoctorReport): string {
    return doctorReportText(report, this.flags.fix ? "list" : "count");
  }

  override successExit({ blockers }: DoctorReport): ExitCodeName {
    return blockers > 0 ? "preflightRefused" : "ok";
  }

  /** The project, why it cannot be used, or null when there is none. */
  async #project(): Promise<EnvironmentConfig | GpuctlError | null> {
    try {
      return await this.loadConfig();
    } catch (error) {
      if (!(error instanceof ConfigInvalid || error instanceof UsageError)) throw error;
      return error.data?.["missing"] === true ? null : error;
    }
  }
}
