import { readFileSync } from "node:fs";
import { scriptBegin, scriptEnd, skippedWord, type ProbeName } from "../../../cli/src/domain/preflight/answers.js";
import type { NodeFacts } from "../../../cli/src/domain/preflight/facts.js";
import type { NodeNeeds, ServiceNeeds } from "../../../cli/src/domain/preflight/needs.js";
import { readNodeFacts } from "../../../cli/src/domain/preflight/read-facts.js";

/** Whole nodes in test/golden/preflight: a good one, and four as people have them. */
export const nodes = ["t4-ubuntu", "after-upgrade", "bare-ubuntu", "wsl2", "no-rights"] as const;
/** Made by the script itself. */
export const machines = ["debian-root", "debian-user", "debian-empty-environment", "debian-docker", "busybox"] as const;
export type Capture = (typeof nodes)[number] | (typeof machines)[number];

/** Exit status, stdout and stderr of a probe, or that it was not asked. */
export type Said = readonly [code: number, stdout: string, stderr?: string] | "skipped" | "silent";
export type Changes = Partial<Readonly<Record<ProbeName, Said>>>;

/** The moment of our clock around which the captures of whole nodes were made. */
export const moment = 1_795_257_990_000;

function readCapture(name: Capture): Map<string, Said> {
  const text = readFileSync(new URL(`../../golden/preflight/${name}.txt`, import.meta.url), "utf8");
  const base = /^base: (\S+)\n/.exec(text)?.[1] as Capture | undefined;
  const probes = base === undefined ? new Map<string, Said>() : readCapture(base);
  for (const section of text.split(/^=== /m).slice(1)) {
    const [head = "", ...rest] = section.split("\n");
    const [probe = "", status = ""] = head.split(" ");
    const [stdout = "", stderr = ""] = rest.join("\n").split(/^--- stderr\n/m);
    probes.set(probe, status === "skipped" ? "skipped" : [Number(status), stdout, stderr]);
  }
  return probes;
}

/** What a probe of a capture printed. */
export function printed(name: Capture, probe: ProbeName): string {
  const said = readCapture(name).get(probe);
  return typeof said === "object" ? said[1] : "";
}

const encoded = (text: string): string => `b${Buffer.from(text).toString("base64")}`;

/** What the script would have printed. */
export function outputOf(name: Capture, changes: Changes = {}): string {
  const probes = new Map([...readCapture(name), ...Object.entries(changes)]);
  const records = [...probes].map(([probe, said]) => {
    if (said === "silent") return `${probe} begin\n`;
    if (said === "skipped") return `${probe} ${skippedWord}\n`;
    return `${probe} begin\n${probe} ${encoded(`${said[1]}\n${said[0].toString()}`)} ${encoded(said[2] ?? "")}\n`;
  });
  return `\n${scriptBegin}\n${records.join("")}${scriptEnd}\n`;
}

export const factsOf = (name: Capture, changes: Changes = {}): NodeFacts =>
  readNodeFacts(outputOf(name, changes), null, { asked: moment, answered: moment + 500 });

export const service: ServiceNeeds = {
  name: "reranker",
  port: 8002,
  device: { prefer: "cuda", require: "cuda", proof: "vram" },
  gpu: "GPU-5a1c3d0e-7b52-4f0a-9c1e-0d6a1f2b3c4d",
  vramMiB: 3000,
  modelBytes: 2.3e9,
  cpuFallback: false,
  keys: true,
};

/** What the environment of the captures wants of its node. */
export const needs: NodeNeeds = {
  node: "gpu-1",
  services: [service],
  entrances: [],
  bind: "10.0.0.5",
  allow: ["10.0.0.0/24"],
  ingress: false,
  tls: false,
  imageBytes: 9e9,
  sentBytes: 0,
  modelBytes: 2.3e9,
  dataDirectory: "/var/lib/gpuctl",
  own: ["label=dev.gpuctl.project=shop", "label=dev.gpuctl.environment=production"],
};
