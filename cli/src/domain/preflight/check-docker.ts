import { blocker, ok, warning, type DoctorFinding } from "../doctor/finding.js";
import { commandsFor, rootSteps, type SystemCommands } from "./commands.js";
import type { Engine, NodeFacts } from "./facts.js";
import { levelFor, names, wantsGpu, type NodeNeeds, type Raise } from "./needs.js";
import { lastLine } from "./read-machine.js";
import { atLeast } from "./versions.js";

/** CDI device requests came with Docker 25, behind a switch, and are on by default since 28.2. */
const leastEngine: readonly [number, number] = [25, 0];
const cdiByDefault: readonly [number, number] = [28, 2];
/** The files on a host use `healthcheck.start_interval`, which Compose knows since 2.20.2. */
const leastCompose: readonly [number, number] = [2, 21];

/** The engine: there, ours to use, new enough, with Compose, and with CDI where a service wants a GPU. */
export function checkNodeDocker(facts: NodeFacts, needs: NodeNeeds): DoctorFinding[] {
  const { docker } = facts;
  const commands = commandsFor(facts);
  switch (docker.state) {
    case "absent":
      return [
        blocker("Docker", "docker-missing", "no Docker on this node", "services run in containers", commands.installDocker),
      ];
    case "refuses":
      return [blocker("Docker", "docker-permission", "Docker refuses this user", docker.because, rootSteps(facts.access))];
    case "unreachable": {
      const next = docker.hangs
        ? [`${commands.sudo}systemctl status docker`, `${commands.sudo}journalctl -u docker -n 50`, commands.restartDocker]
        : [`${commands.sudo}systemctl start docker`, `${commands.sudo}journalctl -u docker -n 50`];
      const what = docker.hangs ? "Docker's engine does not answer" : "Docker's engine does not run";
      return [blocker("Docker", docker.hangs ? "docker-hangs" : "docker-stopped", what, docker.because, next)];
    }
    case "reachable":
      return checkEngine(docker, commands, needs);
  }
}

function checkEngine(engine: Engine, commands: SystemCommands, needs: NodeNeeds): DoctorFinding[] {
  return [
    checkVersion(engine, commands),
    ...checkPackaging(engine, commands),
    checkCompose(engine, commands),
    ...checkStorage(engine),
    ...checkCdi(engine, commands, needs),
  ];
}

function checkVersion({ server, client, as, storageDriver }: Engine, commands: SystemCommands): DoctorFinding {
  const what = `Docker Engine ${server}, client ${client}${storageDriver === null ? "" : `, ${storageDriver}`}${as === "sudo" ? ", by sudo" : ""}`;
  if (atLeast(server, leastEngine)) return ok("Docker", "docker", what);
  const because = `GPU requests by CDI need Docker Engine ${leastEngine[0]} or newer`;
  return blocker("Docker", "docker-old", what, because, commands.installDocker);
}

function checkPackaging({ snap, rootless }: Engine, commands: SystemCommands): DoctorFinding[] {
  const findings: DoctorFinding[] = [];
  if (snap) {
    const because = "a snap sees neither the host's GPU driver nor folders such as the data directory";
    const next = [`${commands.sudo}snap remove docker, which removes its containers and volumes`, ...commands.installDocker];
    findings.push(blocker("Docker", "docker-snap", "Docker is installed as a snap", because, next));
  }
  if (rootless) {
    const because =
      "its engine ends with the session of its user unless lingering is on, and containers see one address for all clients";
    const next = ["loginctl enable-linger", "or use the engine of the system: docker context use default"];
    findings.push(warning("Docker", "docker-rootless", "Docker runs rootless", because, next));
  }
  return findings;
}

function checkCompose({ compose }: Engine, commands: SystemCommands): DoctorFinding {
  if (!compose.seen) {
    return blocker("Docker", "compose-missing", "no Compose plugin", compose.because, commands.installCompose);
  }
  if (atLeast(compose.value, leastCompose)) return ok("Docker", "compose", `Docker Compose ${compose.value}`);
  const because = `the files on the host need Docker Compose ${leastCompose.join(".")} or newer`;
  return blocker("Docker", "compose-old", `Docker Compose ${compose.value}`, because, commands.installCompose);
}

function checkStorage({ storageDriver }: Engine): DoctorFinding[] {
  if (storageDriver !== "vfs" && storageDriver !== "devicemapper") return [];
  const because = "it copies or maps whole layers: images of several gigabytes take many times their room";
  const next = ['in /etc/docker/daemon.json: { "storage-driver": "overlay2" }, which hides the images that there are'];
  return [warning("Docker", "storage-driver", `Docker's storage driver is ${storageDriver}`, because, next)];
}

function checkCdi(engine: Engine, { sudo, restartDocker }: SystemCommands, needs: NodeNeeds): DoctorFinding[] {
  const wanting = needs.services.filter(wantsGpu);
  // An engine too old for CDI has been said already.
  if (wanting.length === 0 || !atLeast(engine.server, leastEngine)) return [];
  const byDefault = atLeast(engine.server, cdiByDefault);
  const enabled = engine.cdi ?? byDefault;
  const level = levelFor(wanting);
  if (enabled) return [checkSpecs(engine, sudo, level)];
  const because = byDefault
    ? `it is switched off in Docker's configuration, and ${names(wanting)} wants a GPU`
    : `before 28.2 it is off unless it is switched on, and ${names(wanting)} wants a GPU`;
  const restart = engine.liveRestore === true ? restartDocker : `${restartDocker}, which restarts every container`;
  const next = [`in /etc/docker/daemon.json: { "features": { "cdi": true } }  (${sudo}nano /etc/docker/daemon.json)`, restart];
  return [level("Docker", "cdi-off", `Docker ${engine.server} has CDI switched off`, because, next)];
}

/** Docker's own complaints: a device that two specifications name is given to nobody. */
function checkSpecs({ cdiErrors }: Engine, sudo: string, level: Raise): DoctorFinding {
  const [first, ...others] = cdiErrors.map((error) => lastLine(error.replaceAll("\n", " ")));
  if (first === undefined) return ok("Docker", "cdi", "Docker can give GPUs to containers by CDI");
  const because = others.length === 0 ? first : `${first} (and ${others.length} more)`;
  const next = ["ls -l /etc/cdi /var/run/cdi", `${sudo}rm the file that is wrong, or the older of two`, "docker info | grep CDI"];
  return level("Docker", "cdi-spec-broken", "Docker cannot use the CDI specifications", because, next);
}
