import type { ComposeNode } from "../../../domain/compose/node.js";
import type { ServiceSpec } from "../../../domain/release.js";
import type { Finding } from "../../../ports.js";
import { lastLines } from "./docker-errors.js";
import type { HostCommands } from "./host-commands.js";
import { hasImage, type ImageSource } from "./images.js";
import { hasModels } from "./model-volumes.js";
import type { HostView } from "./observation.js";
import { proxyOf } from "./observation.js";

export interface PreflightParts {
  commands: HostCommands;
  node: ComposeNode;
  imageOf: (spec: ServiceSpec) => ImageSource;
  /** Whether this machine has the model files of a spec. */
  canSend: (spec: ServiceSpec) => Promise<boolean>;
  view(): Promise<HostView>;
}

/** What stands in the way of running these specs on a host; what a deploy would fetch or send is no obstacle. */
export async function hostPreflight(parts: PreflightParts, specs: readonly ServiceSpec[]): Promise<readonly Finding[]> {
  const view = await parts.view();
  if (view.silent !== null) return [engineSilent(parts.commands.node, view.silent)];
  const findings = [await compose(parts.commands), await state(parts.commands)];
  for (const spec of specs)
    findings.push(await image(parts, spec), ...(await models(parts, spec)), await port(parts, spec, view));
  return findings;
}

const engineSilent = (node: string, said: string): Finding => ({
  level: "blocker",
  code: "docker-silent",
  what: `Docker on ${node} does not answer`,
  because: said,
  nextSteps: [`systemctl status docker   # on ${node}`, "gpuctl doctor"],
});

async function compose(commands: HostCommands): Promise<Finding> {
  const { code, stdout, stderr } = await commands.attempt({ argv: ["docker", "compose", "version", "--short"] });
  if (code === 0) return { level: "ok", code: "compose-present", what: `Docker Compose ${stdout.trim()} is on ${commands.node}` };
  return {
    level: "blocker",
    code: "compose-missing",
    what: `Docker Compose is not on ${commands.node}`,
    because: lastLines(stderr) || `exit status ${code ?? "unknown"}`,
    nextSteps: [`apt-get install docker-compose-plugin   # on ${commands.node}`],
  };
}

/** Arguments: DIRECTORY. Makes nothing: the nearest directory that exists says it. */
const writable = `d=$1; while [ ! -e "$d" ]; do d=$(dirname "$d"); done
if [ -d "$d" ] && [ -w "$d" ]; then exit 0; fi; echo "$d cannot be written by $(id -un)" >&2; exit 1`;

async function state(commands: HostCommands): Promise<Finding> {
  const { code, stderr } = await commands.attempt({ argv: ["sh", "-c", writable, "gpuctl", commands.root] });
  const what = `${commands.root} on ${commands.node}`;
  if (code === 0) return { level: "ok", code: "state-writable", what: `${what} can be written` };
  return {
    level: "blocker",
    code: "state-not-writable",
    what: `${what} cannot be written`,
    because: lastLines(stderr),
    nextSteps: [`log in as root on ${commands.node}`, "gpuctl doctor"],
  };
}

async function image({ commands, imageOf }: PreflightParts, spec: ServiceSpec): Promise<Finding> {
  const { reference, archive } = imageOf(spec);
  if (await hasImage(commands, reference))
    return { level: "ok", code: "code-present", what: `${reference} is on ${commands.node}` };
  const how = archive === null ? "pulled from its registry" : "sent from here";
  return { level: "ok", code: "code-deliverable", what: `${reference} will be ${how} to ${commands.node}` };
}

async function models({ commands, canSend }: PreflightParts, spec: ServiceSpec): Promise<readonly Finding[]> {
  if (spec.model === null) return [];
  const { name } = spec.model;
  if (await hasModels(commands, spec)) return [{ level: "ok", code: "model-present", what: `${name} is on ${commands.node}` }];
  if (await canSend(spec)) return [{ level: "ok", code: "model-deliverable", what: `${name} will be sent to ${commands.node}` }];
  return [
    {
      level: "blocker",
      code: "model-missing",
      what: `the model ${name} is neither on ${commands.node} nor here`,
      nextSteps: ["gpuctl models fetch"],
    },
  ];
}

/** Arguments: PORT in hex as /proc/net/tcp has it. Ends with 0 when somebody listens there. */
const listening = `cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v port=":$1" '$4 == "0A" && substr($2, length($2) - 4) == port { found = 1 } END { exit !found }'`;

async function port({ commands, node }: PreflightParts, { service }: ServiceSpec, view: HostView): Promise<Finding> {
  const number = node.services.find((each) => each.service === service)?.port ?? 0;
  const what = `port ${number} of ${service} on ${commands.node}`;
  if (proxyOf(view)?.state === "running") return { level: "ok", code: "port-ours", what: `${what} is held by this environment` };
  const hex = number.toString(16).toUpperCase().padStart(4, "0");
  const { code } = await commands.attempt({ argv: ["sh", "-c", listening, "gpuctl", hex] });
  if (code !== 0) return { level: "ok", code: "port-free", what: `${what} is free` };
  return {
    level: "blocker",
    code: "port-taken",
    what: `${what} is taken`,
    because: "another process listens there",
    nextSteps: [`ss -ltnp 'sport = :${number}'   # on ${commands.node}`, "or give the service another port in gpuctl.yaml"],
  };
}
