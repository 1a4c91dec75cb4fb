import { TargetUnreachable } from "../../../../cli/src/domain/errors.js";
import type { Command, RemoteHost } from "../../../../cli/src/ports.js";

/**
 * What happens to the next commands on a host: `answer` runs one and loses what it said, `input` loses half of what was sent, `before`
 * loses the command itself.
 */
export type Loss = "answer" | "input" | "before";

/** The line between one operator and the hosts, which can be lost in the middle of anything. */
export class FaultyOperatorLine {
  /** Of the next commands, first one first. */
  readonly losses: Loss[] = [];
  /** Hosts that cannot be reached. */
  readonly down = new Set<string>();
  readonly commands: Command[] = [];
  /** Put around every command: an account with another umask, another user. */
  around: readonly string[] = [];

  readonly over = (host: RemoteHost): RemoteHost => {
    if (this.down.has(host.name)) throw new TargetUnreachable(`${host.name} cannot be reached`, { because: "it is off" });
    return {
      name: host.name,
      run: async (command, options) => {
        this.commands.push(command);
        const loss = this.losses.shift();
        const lost = new TargetUnreachable(`the connection to ${host.name} was lost`, { because: "the line broke" });
        if (loss === "before") throw lost;
        const sent = { ...command, argv: [...this.around, ...command.argv] as [string, ...string[]] };
        if (loss === "input") sent.input = (command.input ?? "").slice(0, (command.input ?? "").length / 2);
        const result = await host.run(sent, options);
        if (loss !== undefined) throw lost;
        return result;
      },
      readFile: host.readFile.bind(host),
      writeFile: host.writeFile.bind(host),
      sendFile: host.sendFile.bind(host),
      tunnel: host.tunnel.bind(host),
      close: host.close.bind(host),
    };
  };
}
