import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LocalExecutor } from "../../../cli/src/adapters/exec/local-executor.js";
import { SshHostConnector } from "../../../cli/src/adapters/ssh/host-connector.js";
import { ms } from "../../../cli/src/domain/units.js";
import { describeHost } from "./host-suite.js";

describeHost("that is this machine", "local", async () => {
  const folder = mkdtempSync(join(tmpdir(), "gpuctl-host-"));
  const env = { PATH: process.env["PATH"] };
  const connector = new SshHostConnector({
    nodes: [{ name: "box", host: "local" }],
    ssh: { client: "node-ssh", knownHosts: null, connectTimeout: ms(10_000), acceptNew: false },
    env,
    executor: new LocalExecutor(env),
    projectFile: join(folder, "gpuctl.yaml"),
  });
  return {
    host: await connector.connect("box", new AbortController().signal),
    folder,
    line: null,
    async dispose() {
      await connector.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
});
