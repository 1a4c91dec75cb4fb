import { TargetUnreachable } from "../../domain/errors.js";
import { describeKey, fingerprintOf, judgeHostKey } from "../../domain/ssh/host-key.js";
import { hostName, typeOfKey } from "../../domain/ssh/known-hosts.js";
import { ms } from "../../domain/units.js";
import type { HostKeys, NewNode, ShownKey } from "../../ports/host-preparer.js";
import { settingsOf, type HostSettings, type SshOptions, type SshSurroundings } from "../ssh/host-settings.js";
import { acceptHostKey, readKnownHosts } from "../ssh/known-hosts-file.js";

/** Best first, as connections ask for them. */
const types = ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"];

/** What hosts show, by `ssh-keyscan`, and what the user's known_hosts says of it. */
export class ScannedHostKeys implements HostKeys {
  readonly #ssh: SshOptions;
  readonly #around: SshSurroundings;

  constructor(ssh: SshOptions, around: SshSurroundings) {
    this.#ssh = ssh;
    this.#around = around;
  }

  async look(node: NewNode, signal: AbortSignal): Promise<{ shown: readonly ShownKey[]; known: boolean; file: string }> {
    const settings = await settingsOf(node, this.#ssh, this.#around, signal);
    const shown = await this.#scan(node, settings, signal);
    const lines = await readKnownHosts(settings.knownHosts);
    const verdicts = shown.map(({ key }) => judgeHostKey(lines, namedAs(settings), Buffer.from(key, "base64")));
    const known = verdicts.some(({ kind }) => kind === "known");
    const other = verdicts.find(({ kind }) => kind === "changed" || kind === "revoked");
    if (!known && other !== undefined) throw otherKey(node, settings, shown);
    return { shown, known, file: settings.knownHosts[0] };
  }

  async remember(node: NewNode, key: ShownKey, signal: AbortSignal): Promise<void> {
    const settings = await settingsOf(node, this.#ssh, this.#around, signal);
    const bytes = Buffer.from(key.key, "base64");
    const verdict = await acceptHostKey(settings.knownHosts, namedAs(settings), bytes, settings.hashKnownHosts);
    if (verdict.kind !== "known") throw otherKey(node, settings, [key]);
  }

  async #scan(node: NewNode, settings: HostSettings, signal: AbortSignal): Promise<ShownKey[]> {
    const { hostName: host, port, proxy } = settings;
    const byHand = `ssh -p ${port} ${settings.user}@${node.host} true   # compare the fingerprint, answer yes`;
    if (proxy !== null)
      throw new TargetUnreachable(`the keys of ${node.name} cannot be asked for`, {
        because: `the ssh configuration leads to it by ${proxy}, which ssh-keyscan cannot follow`,
        nextSteps: [byHand, `then gpuctl host add ${node.name} again`],
      });
    // A connection for each kind, and OpenSSH from 9.8 on counts every one against this address (PerSourcePenalties): none in vain.
    const argv: [string, ...string[]] = ["ssh-keyscan", "-T", "10", "-t", "ed25519,ecdsa,rsa", "-p", String(port), "--", host];
    const { stdout, stderr } = await this.#around.executor.run({ argv }, { deadline: ms(60_000), signal });
    const shown = stdout.split("\n").flatMap(readScanned);
    if (shown.length > 0) return shown.sort((left, right) => types.indexOf(left.type) - types.indexOf(right.type));
    throw new TargetUnreachable(`${node.name} (${host}) shows no host key at port ${port}`, {
      because: stderr.trim().split("\n").at(-1) || "nothing answers there",
      nextSteps: [byHand],
      data: { host, port },
    });
  }
}

/** A line of ssh-keyscan: host, type, key. */
function readScanned(line: string): ShownKey[] {
  const [host = "#", type = "", key = ""] = line.split(" ");
  const bytes = Buffer.from(key, "base64");
  if (host.startsWith("#") || !types.includes(type) || typeOfKey(bytes) !== type) return [];
  return [{ type, key, fingerprint: fingerprintOf(bytes) }];
}

/** Name and port under which known_hosts has it. */
function namedAs({ hostKeyAlias, hostName: name, port }: HostSettings): { name: string; port: number } {
  return hostKeyAlias === null ? { name, port } : { name: hostKeyAlias, port: 22 };
}

function otherKey(node: NewNode, settings: HostSettings, shown: readonly ShownKey[]): TargetUnreachable {
  const { name, port } = namedAs(settings);
  return new TargetUnreachable(`${node.name} (${settings.hostName}) has another key than the one that is known`, {
    because: `it shows ${shown.map(({ key }) => describeKey(Buffer.from(key, "base64"))).join(", ")}`,
    nextSteps: [
      "find out why: a new installation of the host has a new key, and so has somebody in between",
      `ssh-keygen -R '${hostName(name, port)}' -f ${settings.knownHosts[0]}   # only when the new key is right`,
    ],
  });
}
