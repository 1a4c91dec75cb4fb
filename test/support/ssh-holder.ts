/** A process that connects to a host and runs a command until it is killed; what to connect to is its argument. */
import { LocalExecutor } from "../../cli/src/adapters/exec/local-executor.js";
import { SshHostConnector, type ConnectorOptions } from "../../cli/src/adapters/ssh/host-connector.js";
import { ms } from "../../cli/src/domain/units.js";

const options = JSON.parse(process.argv[2] ?? "{}") as Omit<ConnectorOptions, "executor" | "env">;
const env = { PATH: process.env["PATH"] };
const connector = new SshHostConnector({ ...options, env, executor: new LocalExecutor(env) });
const host = await connector.connect("box", new AbortController().signal);
await host.run(
  { argv: ["sh", "-c", "echo $PPID; exec sleep 600"] },
  { deadline: ms(600_000), onLine: () => process.stdout.write("running\n") },
);
