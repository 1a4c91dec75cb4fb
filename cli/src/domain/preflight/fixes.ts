import { unheldPackages } from "./check-driver.js";
import { isThere } from "./check-machine.js";
import type { NodeFacts } from "./facts.js";
import { settleDevices, wantsGpu, type NodeNeeds } from "./needs.js";

/** A repair that `--fix` may make once a person has agreed to it. Nothing here restarts Docker, a container or the machine, or touches a driver. */
export interface Fix {
  /** Code of the finding that it mends. */
  mends: string;
  /** What it does, as the list to agree to shows it. */
  what: string;
  /** What is different afterwards. */
  changes: string;
  /** Why nothing that runs can suffer from it. */
  safe: string;
  argv: readonly [string, ...string[]];
}

/** The safe repairs of a node, in the order in which they are to be made. None without the rights to make them. */
export function planFixes(facts: NodeFacts, needs: NodeNeeds): Fix[] {
  if (facts.access.root.by === "none") return [];
  const gpu = settleDevices(needs, facts).services.some(wantsGpu) ? [persistence(facts), hold(facts), specification(facts)] : [];
  return [dataDirectory(facts, needs), ...gpu]
    .filter((fix) => fix !== null)
    .map((fix) => ({ ...fix, argv: asRoot(facts, fix.argv) }));
}

function asRoot({ access }: NodeFacts, argv: Fix["argv"]): Fix["argv"] {
  return access.root.by === "sudo" ? ["sudo", "-n", ...argv] : argv;
}

function dataDirectory({ dataDisk, access, docker }: NodeFacts, { dataDirectory: path }: NodeNeeds): Fix | null {
  if (!dataDisk.seen || !dataDisk.value.folder || !dataDisk.value.writable || isThere(dataDisk.value.path, path)) return null;
  // The engine's own user writes there where the engine is not root's.
  const rootless = docker.state === "reachable" && docker.rootless;
  const owner = rootless && access.user.seen ? ["-o", access.user.value.name] : [];
  return {
    mends: "data-directory-missing",
    what: `make ${path}`,
    changes: `an empty folder, readable by ${owner.length > 0 ? "this user" : "root"} only`,
    safe: "it does not exist yet",
    argv: ["install", "-d", "-m", "0750", ...owner, path],
  };
}

function persistence({ smi, system }: NodeFacts): Fix | null {
  const wsl = system.seen && system.value.wsl === 2;
  if (wsl || smi.state !== "gpus" || !smi.gpus.some((gpu) => gpu.persistence === false && gpu.fault === null)) return null;
  return {
    mends: "persistence-off",
    what: "turn persistence mode on",
    changes: "the driver keeps idle GPUs initialised, until the next boot",
    safe: "it has no effect on a GPU that is in use",
    argv: ["nvidia-smi", "-pm", "1"],
  };
}

/** Only where the versions agree: holding a driver that is half upgraded would keep it so. */
function hold(facts: NodeFacts): Fix | null {
  const { loaded, onDisk, library } = facts.driver;
  const unheld = unheldPackages(facts).filter((name) => /^[a-z0-9][a-z0-9+.-]+$/.test(name));
  const agree =
    loaded.seen && (!onDisk.seen || onDisk.value === loaded.value) && (!library.seen || library.value === loaded.value);
  if (unheld.length === 0 || !agree) return null;
  return {
    mends: "driver-not-held",
    what: `hold ${unheld.length} driver packages`,
    changes: "apt leaves them as they are until: apt-mark unhold",
    safe: "it installs and removes nothing",
    argv: ["apt-mark", "hold", ...unheld],
  };
}

/** A missing specification, or one of another driver in the folder that this writes to. */
function specification({ toolkit, driver, smi }: NodeFacts): Fix | null {
  if (!toolkit.version.seen || !toolkit.specs.seen || smi.state !== "gpus") return null;
  const [first, ...others] = toolkit.specs.value;
  const { loaded } = driver;
  const stale = first?.driver != null && loaded.seen && first.driver !== loaded.value;
  const damaged = first !== undefined && (stale || first.missingHooks.length > 0);
  if (first !== undefined && (!damaged || others.length > 0 || first.path !== output)) return null;
  return {
    mends: first === undefined ? "cdi-spec-missing" : stale ? "cdi-spec-stale" : "cdi-hook-missing",
    what: `write the CDI specification ${output}`,
    changes: "new containers can be given the GPUs of this driver",
    safe: "containers read it only when they start",
    argv: ["nvidia-ctk", "cdi", "generate", `--output=${output}`],
  };
}

const output = "/etc/cdi/nvidia.yaml";
