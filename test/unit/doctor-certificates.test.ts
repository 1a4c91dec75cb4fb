import { expect, test } from "vitest";
import { doctor, type DoctorProject } from "../../cli/src/app/doctor.js";
import type { DoctorFinding } from "../../cli/src/domain/doctor/finding.js";
import { TargetUnreachable } from "../../cli/src/domain/errors.js";
import type { HostInspector } from "../../cli/src/ports.js";
import { hostSeen } from "../support/doctor-findings.js";
import { projectConfig } from "../support/project-config.js";

const host: HostInspector = { inspect: () => Promise.resolve(hostSeen), ports: () => Promise.resolve([]) };

async function certificates(unencrypted: DoctorProject["unencrypted"]): Promise<readonly DoctorFinding[]> {
  const models = {
    resolve: () => Promise.reject(new TargetUnreachable("no model is looked for")),
    verify: () => Promise.resolve([]),
  };
  const project = {
    config: { ...projectConfig("/p"), target: "compose" },
    models,
    driver: null,
    ...(unencrypted && { unencrypted }),
  };
  const { findings } = await doctor({ host, signal: new AbortController().signal, project: project as DoctorProject });
  return findings.filter(({ code }) => code.startsWith("certificate"));
}

test("doctor warns of a certificate that a proxy did not get, with what the proxy says, and what to look at", async () => {
  const sentence =
    "the proxy of gpu-1 has no certificate for a.example.net yet, so HTTPS does not answer there: refused, so often";
  expect(await certificates(() => Promise.resolve([sentence]))).toEqual([
    {
      group: "ports",
      level: "warning",
      code: "certificate-missing",
      what: "the proxy of gpu-1 has no certificate for a.example.net yet",
      because: "HTTPS does not answer there: refused, so often",
      nextSteps: ["see that the ACME server and the node reach each other (ports 80 and 443, the name in DNS)"],
    },
  ]);
});

test("doctor says nothing of certificates that are there, that nobody asks for, or of hosts that cannot be asked", async () => {
  expect(await certificates(() => Promise.resolve([]))).toEqual([]);
  expect(await certificates(undefined)).toEqual([]);
  expect(await certificates(() => Promise.reject(new TargetUnreachable("gpu-1 is silent")))).toEqual([]);
});
