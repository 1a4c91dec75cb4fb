import { probeNames, readAnswers } from "./answers.js";
import type { NodeFacts } from "./facts.js";
import { readNodeDocker } from "./read-docker.js";
import { readDriver, readGpuProcesses, readSmi, readToolkit, readUpkeep } from "./read-driver.js";
import { readAccess, readClock, readDataDisk, readMemory, readSystem, readTools, type ClockReading } from "./read-machine.js";
import { readNetwork } from "./read-network.js";

/**
 * What the preflight script saw, from its output. Every text has a reading: what is missing, refused, cut off or without sense is a
 * fact with a reason.
 * @param ended why the output stops, when something outside of the script made it stop
 */
export function readNodeFacts(output: string, ended: string | null, clock: ClockReading): NodeFacts {
  const answers = readAnswers(output, ended);
  return {
    incomplete: answers.incomplete,
    hanging: probeNames.filter((name) => answers.of(name).state === "hangs"),
    access: readAccess(answers),
    system: readSystem(answers),
    memory: readMemory(answers),
    clock: readClock(answers, clock),
    dataDisk: readDataDisk(answers),
    tools: readTools(answers),
    docker: readNodeDocker(answers),
    network: readNetwork(answers),
    driver: readDriver(answers),
    toolkit: readToolkit(answers),
    smi: readSmi(answers),
    gpuProcesses: readGpuProcesses(answers),
    upkeep: readUpkeep(answers),
  };
}
