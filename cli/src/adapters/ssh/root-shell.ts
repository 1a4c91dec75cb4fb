import { Duplex, PassThrough, type Readable } from "node:stream";
import { Failed } from "../../domain/errors.js";
import { quoteWord } from "../../domain/ssh/shell-line.js";
import { findRelay, relayPrograms, relayScript } from "../../domain/ssh/socket-relay.js";
import { ms } from "../../domain/units.js";
import type { HostShell, ScriptEvents, TunnelEnd } from "./host-shell.js";
import { runScript, type Script } from "./script-run.js";
import type { Slots } from "./slots.js";
import { withLimit } from "./time-limit.js";
import { lastLines, tooLate, type HostAddress } from "./unreachable.js";

/** sudo may ask a directory service before it answers. */
const askDeadline = ms(20_000);
/** How long a relay may take to end when nobody listens to it any more. */
const relayEndMs = 3000;

/** Prints `root`, or what can carry a relay for root; fails where the account cannot become root without being asked. */
const becomeRoot = `if [ "$(id -u)" = 0 ]; then echo root; else sudo -n /bin/sh -c ${quoteWord(`${findRelay}; echo sudo`)}; fi`;

/**
 * The same connection for root: itself where the account is root, else through `sudo -n`. The account is what the host says it is.
 * Throws Failed where it cannot become root.
 */
export async function rootShell(shell: HostShell, address: HostAddress, slots: Slots, signal: AbortSignal): Promise<HostShell> {
  const late = (): Failed => tooLate("becoming root", address.node, askDeadline);
  let stdout = "";
  let stderr = "";
  const script: Script = {
    text: becomeRoot,
    input: null,
    onStdout: (chunk) => (stdout += chunk.toString()),
    onStderr: (chunk) => (stderr += chunk.toString()),
    doing: "it was asked for root",
  };
  const { code } = await withLimit({ deadline: askDeadline, signal }, late, (limit) =>
    runScript(shell, address, script, limit.signal),
  );
  const said = stdout.trim().split("\n");
  if (said[0] === "root") return shell;
  if (code !== 0 || said.at(-1) !== "sudo") throw noRoot(address, lastLines(stderr) || `exit status ${code ?? "unknown"}`);
  if (said.length === 1) throw noRelay(address);
  return new RootShell(shell, address, slots);
}

class RootShell implements HostShell {
  readonly #shell: HostShell;
  readonly #address: HostAddress;
  readonly #slots: Slots;

  constructor(shell: HostShell, address: HostAddress, slots: Slots) {
    this.#shell = shell;
    this.#address = address;
    this.#slots = slots;
  }

  get status(): HostShell["status"] {
    return this.#shell.status;
  }

  get lost(): boolean {
    return this.#shell.lost;
  }

  start(script: string, input: Readable | null, events: ScriptEvents, signal: AbortSignal): Promise<() => void> {
    // The shell that becomes sudo leads the group of all that follows: what is ended later is that group.
    return this.#shell.start(`exec sudo -n /bin/sh -c ${quoteWord(script)} gpuctl "$$"`, input, events, signal);
  }

  /** Sockets of services are for their own user: sshd, which has no more rights than the account, cannot reach them. */
  async forward(to: TunnelEnd, signal: AbortSignal): Promise<Duplex> {
    if ("port" in to) return this.#shell.forward(to, signal);
    const giveBack = await this.#slots.take(signal);
    const [up, down, ending] = [new PassThrough(), new PassThrough(), new AbortController()];
    const way = Duplex.from({ writable: up, readable: down });
    let farewell: NodeJS.Timeout | undefined;
    let stderr = "";
    const ended = runScript(
      this,
      this.#address,
      {
        text: relayScript(to.socket),
        input: up,
        onStdout: (chunk) => down.write(chunk),
        onStderr: (chunk) => (stderr = (stderr + chunk.toString()).slice(-2000)),
        doing: `${to.socket} was spoken to`,
      },
      ending.signal,
    );
    way.once("close", () => {
      up.end();
      farewell = setTimeout(() => ending.abort(new Error("the tunnel was closed")), relayEndMs);
    });
    void ended
      .then(({ code }) => {
        if (code === 0) down.end();
        else way.destroy(new Error(lastLines(stderr) || `nobody answers at ${to.socket}`));
      })
      .catch((error: unknown) => way.destroy(error as Error))
      .finally(() => {
        clearTimeout(farewell);
        giveBack();
      });
    return way;
  }

  close(): Promise<void> {
    return this.#shell.close();
  }
}

const accountOf = ({ user }: HostAddress): string => (user === "" ? "this account" : user);

function noRoot(address: HostAddress, because: string): Failed {
  const who = address.user === "" ? "USER" : address.user;
  return new Failed(`${accountOf(address)} cannot become root on ${address.node}`, {
    because,
    nextSteps: [
      `log in as root, or allow sudo without a password on ${address.node}`,
      `sudo visudo -f /etc/sudoers.d/gpuctl   # there, with the line: ${who} ALL=(ALL) NOPASSWD: ALL`,
      "gpuctl doctor",
    ],
    data: { node: address.node, user: address.user },
  });
}

function noRelay(address: HostAddress): Failed {
  return new Failed(`${accountOf(address)} cannot reach the sockets of services on ${address.node}`, {
    because: `they are for root, and for sudo one of ${relayPrograms.join(", ")} must be there`,
    nextSteps: [`install python3 on ${address.node}, or log in as root`],
    data: { node: address.node, user: address.user },
  });
}
