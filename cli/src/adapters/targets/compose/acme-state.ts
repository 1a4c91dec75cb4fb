import { acmeCertificates } from "../../../domain/compose/acme.js";
import { tlsEnd } from "../../../domain/compose/host-files.js";
import type { ComposeNode } from "../../../domain/compose/node.js";
import { companions } from "../../../domain/compose/render-compose.js";
import type { Clock } from "../../../ports.js";
import { certificatesIn } from "./certificate.js";
import type { HostCommands } from "./host-commands.js";

/** Arguments: CONTAINER FILE…. The certificates that are there; without any, what the container complained of last when it wanted one. */
const looking = `c=$1; shift; found=
for f in "$@"; do if [ -s "$f" ]; then cat "$f"; found=yes; fi; done
if [ -z "$found" ]; then docker logs --tail 500 "$c" 2>&1 | grep '"logger":"tls\\.' | grep '"error":' | tail -n 1; fi
exit 0`;

/** Why a running listener of this node does not answer over TLS; null where it does, or where it is not to get certificates by itself. */
export async function withoutCertificate(
  { commands, clock }: { commands: HostCommands; clock: Clock },
  node: ComposeNode,
): Promise<string | null> {
  const { tls } = node;
  const end = tlsEnd(node);
  const container = companions(node).find(({ role }) => role === end)?.container;
  if (tls.mode !== "acme" || end === null || container === undefined) return null;
  const args = [container, ...acmeCertificates(node)];
  const said = await commands.look({ text: looking, args, failure: "the certificate could not be looked for" });
  // Each file has those of its authority too.
  const ends = readable(said).flatMap((each) => (each.ca ? [] : [Date.parse(each.validTo)]));
  if (ends.some((at) => at > clock.now().getTime())) return null;
  const what =
    ends.length === 0
      ? `the ${end} of ${node.node} has no certificate for ${tls.domain} yet`
      : `the certificate of the ${end} of ${node.node} for ${tls.domain} ended on ${dayOf(Math.max(...ends))}`;
  return `${what}, so HTTPS does not answer there${complaint(said)}; it asks again by itself, docker logs ${container} says more`;
}

/** A file that is damaged counts as none. */
function readable(pem: string): ReturnType<typeof certificatesIn> {
  try {
    return certificatesIn(pem);
  } catch {
    return [];
  }
}

const dayOf = (at: number): string => new Date(at).toISOString().slice(0, 10);

/** What Caddy wrote last about it, in its own words. */
function complaint(said: string): string {
  try {
    const { error } = JSON.parse(said.trim()) as { error?: unknown };
    return typeof error === "string" && error !== "" ? `: ${error.slice(0, 300)}` : "";
  } catch {
    return "";
  }
}
