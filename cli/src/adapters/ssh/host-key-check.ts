import {
  describeKey,
  hostKeyAlgorithms,
  judgeHostKey,
  type HostKeyAlgorithm,
  type HostKeyVerdict,
} from "../../domain/ssh/host-key.js";
import { hostName, parseKnownHosts, type KnownHost } from "../../domain/ssh/known-hosts.js";
import type { PinnedKeys } from "./host-settings.js";
import { acceptHostKey, readKnownHosts } from "./known-hosts-file.js";
import { cannotConnect, pinnedSteps, type HostAddress } from "./unreachable.js";
import type { TargetUnreachable } from "../../domain/errors.js";

export interface HostKeyPolicy {
  /** Name and port that known_hosts is searched for. */
  host: { name: string; port: number };
  /** Files, the one that is written to first. */
  files: readonly [string, ...string[]];
  /** Whether the key of a host that is not known is accepted and remembered. */
  acceptNew: boolean;
  /** Whether a new line hides the host's name. */
  hashed: boolean;
  /** In place of what the files say; what they revoke stays revoked. */
  pinned: PinnedKeys | null;
}

/**
 * The check of one connection's host key. ssh2 accepts whatever its verifier does not deny with exactly `false`, and asks again
 * at each new exchange of keys: `verify` answers a boolean, and the same key is asked for from then on.
 */
export class HostKeyCheck {
  readonly algorithms: readonly HostKeyAlgorithm[];
  readonly #known: readonly KnownHost[];
  readonly #policy: HostKeyPolicy;
  readonly #address: HostAddress;
  #shown: Buffer | null = null;
  #refusal: TargetUnreachable | null = null;
  #isNew = false;

  private constructor(policy: HostKeyPolicy, address: HostAddress, known: readonly KnownHost[]) {
    this.#policy = policy;
    this.#address = address;
    this.#known = known;
    this.algorithms = hostKeyAlgorithms(known, policy.host);
  }

  static async prepare(policy: HostKeyPolicy, address: HostAddress): Promise<HostKeyCheck> {
    const files = await readKnownHosts(policy.files);
    if (policy.pinned === null) return new HostKeyCheck(policy, address, files);
    const revoked = files.filter(({ marker }) => marker === "revoked");
    return new HostKeyCheck(policy, address, [...pinnedHosts(policy.host, policy.pinned), ...revoked]);
  }

  /** Why the host was refused, when it was. */
  get refusal(): TargetUnreachable | null {
    return this.#refusal;
  }

  readonly verify = (key: Buffer): boolean => {
    if (this.#shown !== null) return this.#shown.equals(key);
    this.#shown = Buffer.from(key);
    const verdict = judgeHostKey(this.#known, this.#policy.host, key);
    this.#isNew = verdict.kind === "unknown";
    this.#refusal = this.#refused(verdict, key);
    return this.#refusal === null;
  };

  /** Remembers an accepted new key; only now, as the host has proven by now that the key is its own. */
  async remember(): Promise<void> {
    if (!this.#isNew || this.#shown === null) return;
    const { files, host, hashed } = this.#policy;
    const verdict = await acceptHostKey(files, host, this.#shown, hashed);
    this.#refusal = this.#refused(verdict, this.#shown);
    if (this.#refusal !== null) throw this.#refusal;
  }

  #refused(verdict: HostKeyVerdict, key: Buffer): TargetUnreachable | null {
    const shown = describeKey(key);
    const refuse = (because: string, steps: readonly string[]): TargetUnreachable => cannotConnect(this.#address, because, steps);
    switch (verdict.kind) {
      case "known":
        return null;
      case "revoked":
        return refuse(`its host key ${shown} is revoked at ${verdict.at}`, [`sed -n ${lineOf(verdict.at)}`]);
      case "changed":
        return refuse(changed(verdict, shown), this.#afterChange());
      case "unknown":
        return this.#policy.acceptNew ? null : refuse(...this.#unknown(verdict.authority, shown));
    }
  }

  #afterChange(): readonly string[] {
    const { host, files, pinned } = this.#policy;
    const { port, host: address } = this.#address;
    if (pinned !== null) return pinnedSteps(this.#address);
    const removal = `ssh-keygen -R '${hostName(host.name, host.port)}' -f ${files[0]}`;
    return [
      "find out why: a new installation of the host has a new key, and so has somebody in between",
      `ssh-keyscan -p ${port} ${address} | ssh-keygen -lf -   # from a place you trust`,
      `${removal}   # only when the new key is right`,
    ];
  }

  #unknown(authority: string | null, shown: string): [string, readonly string[]] {
    const { port, user, alias } = this.#address;
    if (authority !== null)
      return [
        `known_hosts trusts a certificate authority for it (${authority}), which only the system's ssh can use; its plain key is ${shown}`,
        ["set ssh: { client: openssh } for this environment in gpuctl.yaml"],
      ];
    return [
      `its host key ${shown} is not in ${this.#policy.files.join(" or ")}`,
      [
        `ssh -p ${port} ${user}@${alias}   # compare the fingerprint, answer yes`,
        "or gpuctl doctor --accept-new-host-keys, to trust and remember a host that is seen for the first time",
      ],
    ];
  }
}

/** Keys of an inventory as lines of a known_hosts file that nobody wrote. */
function pinnedHosts(host: HostKeyPolicy["host"], { keys, by }: PinnedKeys): readonly KnownHost[] {
  const name = hostName(host.name, host.port);
  return keys.flatMap((key) => parseKnownHosts(`${name} ${key}`, by)).map((line) => ({ ...line, at: by }));
}

function changed(verdict: Extract<HostKeyVerdict, { kind: "changed" }>, shown: string): string {
  const pinned = verdict.pinned.map(({ type, fingerprint, at }) => `${type} ${fingerprint} (${at})`).join(", ");
  return `its host key has changed: it shows ${shown}, known is ${pinned}`;
}

function lineOf(at: string): string {
  const colon = at.lastIndexOf(":");
  return `${at.slice(colon + 1)}p ${at.slice(0, colon)}`;
}
