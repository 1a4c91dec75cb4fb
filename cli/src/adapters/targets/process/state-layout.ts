import { join } from "node:path";
import type { InstanceId, Sha256 } from "../../../domain/names.js";
import type { Directories } from "../../state/directories.js";

/** Every path of one environment on this machine (docs/architecture.md, "Directories"). */
export class StateLayout {
  readonly state: string;
  readonly run: string;
  readonly cache: string;

  constructor(directories: Directories) {
    this.state = directories.state;
    this.run = directories.run;
    this.cache = directories.cache;
  }

  get wheels(): string {
    return join(this.state, "wheels");
  }
  wheel(hash: Sha256): string {
    return join(this.wheels, `${hash}.whl`);
  }

  get instances(): string {
    return join(this.state, "instances");
  }
  launchDocument(id: InstanceId): string {
    return join(this.instances, `${id}.json`);
  }
  secretsOf(id: InstanceId): string {
    return join(this.instances, `${id}.secrets`);
  }

  get logs(): string {
    return join(this.state, "logs");
  }
  log(id: InstanceId): string {
    return join(this.logs, `${id}.log`);
  }
  get keeperLog(): string {
    return join(this.logs, "keeper.log");
  }

  get keeperFile(): string {
    return join(this.state, "keeper/keeper.json");
  }
  get desiredFile(): string {
    return join(this.state, "keeper/desired.json");
  }
  get keeperSocket(): string {
    return join(this.run, "keeper.sock");
  }
  control(id: InstanceId): string {
    return join(this.run, `${id}.ctl`);
  }
  private(id: InstanceId): string {
    return join(this.run, `${id}.http`);
  }

  get index(): string {
    return join(this.state, "index");
  }
}
